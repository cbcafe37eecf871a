# SPDX-License-Identifier: ISC
from flask import Flask, request

app = Flask(__name__)


@app.route("/<path:p>")
def hello(p):
    return f"hello from flask /{p}"


@app.route("/echo", methods=["POST"])
def echo():
    return request.get_data()


app.run(host="0.0.0.0", port=8080, threaded=True)
