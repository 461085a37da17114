"""Programs that use Athanor from outside, through `athanor.client` alone."""
