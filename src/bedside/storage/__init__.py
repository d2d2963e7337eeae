"""Where state lies on disk: the accounts database, its migrations, the site's keys, file locks."""
