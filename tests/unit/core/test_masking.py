"""What of a URL or a header may be shown."""

import pytest

from webhookd.core.masking import is_masked_url, masked_header, masked_url


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
    ("url", "shown"),
    [
        ("https://h/s3cret", "https://h/…"),
        ("https://h:8443/s3cret?s3cret=s3cret", "https://h:8443/…"),
        ("https://h?s3cret", "https://h/…"),
        ("https://h", "https://h/…"),
        ("http://[::1]:80/s3cret", "http://[::1]:80/…"),
        ("https://s3cret:s3cret@h/s3cret", "https://h/…"),
        ("https://h\\s3cret", "https://h/…"),
        ("s3cret", "********"),
    ],
)
def test_of_a_secret_url_only_the_origin_is_shown(url, shown):
    assert masked_url(url, is_secret=True) == shown
    assert is_masked_url(shown)


def test_an_ordinary_url_is_not_taken_for_a_masked_one():
    assert not is_masked_url("https://example.com/in?a=*&b=…x")


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
