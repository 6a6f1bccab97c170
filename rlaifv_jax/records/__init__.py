"""Files of JSON records that grow, survive a kill at any time, and come out the same however the work was shared."""
