"""What is answered to which path."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def page(path):
    if path == "/":
        with open(os.path.join(HERE, "text.txt"), "rb") as f:
            return b"200 OK", f.read()
    if path == "/about":
        return b"200 OK", b"One of many apps: number @N@.\n"
    return b"404 Not Found", b"There is nothing here.\n"
