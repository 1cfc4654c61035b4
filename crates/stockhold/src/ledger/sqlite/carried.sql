-- What holds that were removed have shipped. With it the history of stock is accounted for without
-- them: every movement of kind 'ship' belongs to a hold, or to one that is gone.
CREATE TABLE carried (
    item            INTEGER PRIMARY KEY REFERENCES stock,
    shipped         INTEGER NOT NULL CHECK (shipped >= 0)
) STRICT;
