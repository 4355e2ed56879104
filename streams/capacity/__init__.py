"""How much of everything a load needs: measured figures, a model over them, its arithmetic."""
