"""Numbers the pooler goes by also where nothing is served by HTTP."""

#: Connections at a time; for one more the one that has owed us a request longest goes, and if none does it is told 503.
MAX_CONNECTIONS = 64
