"""What of a URL or a header may be shown."""

import pytest

from webhookd.core.masking import masked_header, masked_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://h/p?", "https://h/p?********"),
        ("https://h/p?a=1&b=2=3&c=", "https://h/p?a=********&b=********&c=********"),
        ("https://h?token", "https://h?********"),
        ("https://h/?a=1?b=2", "https://h/?a=********"),
    ],
)
def test_values_in_the_query_are_masked(url, shown):
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("X-Team", "blue", "blue"),
        ("Authorization", "Bearer abc", "********"),
        ("x-api-KEY", "abc", "********"),
        ("Authorization", 'Token token="{secret}"', 'Token token="{secret}"'),
    ],
)
def test_credentials_in_headers_are_masked(name, value, shown):
    assert masked_header(name, value) == shown
