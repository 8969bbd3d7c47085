-- The end of what a service wrote on a target where a deployment failed.
CREATE TABLE last_lines (
    deployment INTEGER NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (deployment, target)
) STRICT;
