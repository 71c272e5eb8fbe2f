"""Training of the networks of the bundled model, in the order of the flow:

``render`` draws faces and stores them as shards, which ``rendered_faces`` reads. ``video``, ``landmarks`` and ``text`` train the three encoders.
``rendered_tokens`` encodes further faces; on these ``joint`` trains the joint space of words and visual tokens, ``heads`` the head of every front
end, and ``measure`` scores the heads on others. ``clip`` trains a small CLIP on the same faces. Every training runs in ``loop``.
"""
