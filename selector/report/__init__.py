"""From measurements to pictures and pages."""
