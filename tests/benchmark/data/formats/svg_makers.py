"""Small SVG labels for tests."""

from __future__ import annotations

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" viewBox="0 0 40 30">'
SQUARE = '<path d="M2,3 L6,3 L6,8 L2,8 L2,3 Z" fill="lime" />'
VIA = '<circle cx="20" cy="10" r="4" fill="red" />'


def document(*shapes: str, head: str = HEAD) -> str:
    return "\n".join(('<?xml version="1.0" encoding="UTF-8"?>', head, "<defs>\n</defs>", *shapes, "</svg>"))
