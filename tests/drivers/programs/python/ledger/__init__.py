"""An application of Django that is migrated up and down."""
