"""The command ``netx-export``."""
