"""What people and other programs read: tables, figures, HTML pages."""
