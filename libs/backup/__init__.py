"""Everything that a store of Athanor knows, in one file. Read `archive`, `take`, `restore`."""
