from .texts import ABOUT, TEXT


def home(environ):
    return TEXT


def about(environ):
    return ABOUT


def number(environ):
    return "@N@\n"
