"""The demonstration's world: the standard library's documentation as a web site on loopback.

Read in this order: `render` (pages), `site` (serves them, with the oddities of real sites).
"""
