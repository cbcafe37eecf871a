from .pages import about, home, number

ROUTES = {"/": home, "/about": about, "/number": number}
