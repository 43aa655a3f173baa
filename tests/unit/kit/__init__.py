"""Tests of the test kit: a fake that lies would make every test that uses it worthless."""
