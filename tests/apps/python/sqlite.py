# SPDX-License-Identifier: ISC
"""sqlite3 on a volume at /data, in rollback and in WAL mode; prints sums."""
import sqlite3

for mode in ("delete", "wal"):
    db = sqlite3.connect(f"/data/{mode}.db")
    assert db.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
    db.execute("create table if not exists t(a integer primary key, b text)")
    with db:
        db.executemany("insert into t(b) values(?)", ((str(i) * 10,) for i in range(1000)))
    n, total = db.execute("select count(*), sum(length(b)) from t").fetchone()
    print(mode, n, total, db.execute("pragma integrity_check").fetchone()[0])
    db.close()
