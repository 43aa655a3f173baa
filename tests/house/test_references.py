"""The reference pages say what the code says: they are made from it, and this is how they are kept so."""

import pytest

from docs.generate import HERE, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_makes_of_it(name):
    # A bare comparison: of two pages of a thousand lines nobody wants to see the difference here.
    is_up_to_date = (HERE / name).read_text() == PAGES[name]()
    assert is_up_to_date, f"docs/{name} is behind the code: run `python -m docs.generate` and commit what it writes"
