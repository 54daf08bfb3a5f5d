//! Trackers: announce and scrape over HTTP and UDP, tiers and back-off (BEP 3, 7, 12, 15, 23, 24, 31, 41, 48).
