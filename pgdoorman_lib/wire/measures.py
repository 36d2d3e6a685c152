"""Measures that several modules go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: Bytes of a text from which a statement that nobody holds is not kept for whoever may come: in PostgreSQL it takes
#: thirty to seventy times as much.
LARGE = 8192
#: Bytes of a word, a quoted name, or the tag of a dollar quote that are kept from one part of a text for the next one.
LONGEST_KEPT = 1024
#: Seconds for which what a server has made of a text is believed to be what any server would make of it: somebody whom
#: the pooler does not see may have changed a table.
BELIEVED = 1.0
#: What a statement that a client holds costs the pooler beside its text, bytes.
OVERHEAD = 512
