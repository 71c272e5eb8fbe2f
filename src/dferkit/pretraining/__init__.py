"""Training of the networks of the bundled model, in the order of the flow:

``render`` draws faces and stores them as shards (``face_shards``); ``video``, ``landmarks`` and ``text`` train the three encoders with ``loop``;
``shard_tokens`` encodes further faces; ``joint`` trains the joint space of words and visual tokens. ``clip`` trains a small CLIP on the same faces.
"""
