"""The bytes of letters, for what is told by a few of them: command tags, the words statements begin with."""

from __future__ import annotations

A = 65
B = 66
C = 67
D = 68
E = 69
F = 70
G = 71
H = 72
I = 73  # noqa: E741
J = 74
K = 75
L = 76
M = 77
N = 78
O = 79  # noqa: E741
P = 80
Q = 81
R = 82
S = 83
T = 84
U = 85
V = 86
W = 87
X = 88
Y = 89
Z = 90
#: the digit
ZERO = 48
