"""The report's page, live: served while a search runs, to this machine and to whoever has its token."""
