"""What runs Athanor somewhere: recipes, the demonstration's world, local processes."""
