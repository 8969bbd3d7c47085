-- What people froze; the environment is empty where all are frozen.
CREATE TABLE freezes (
    environment TEXT NOT NULL PRIMARY KEY,
    body        TEXT NOT NULL
) STRICT;

-- Events of the history that a notifier has not told yet.
CREATE TABLE notices (
    sequence INTEGER NOT NULL,
    notifier TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (sequence, notifier)
) STRICT;
