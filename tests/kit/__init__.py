"""What tests build their worlds from: a clock that obeys, a sender and receivers with scripts, the real daemon."""
