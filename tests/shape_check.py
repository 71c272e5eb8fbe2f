"""How shapes are checked while tests run: every annotated call of the packages named in ``conftest.py``, an int being good enough for a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
