"""The pure rules of core, one by one."""
