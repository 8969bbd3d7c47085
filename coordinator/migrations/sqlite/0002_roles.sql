-- The roles that people declared; those that every installation has are not here.
CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
