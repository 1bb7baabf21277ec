package system.log_test

import data.system.log

test_claims_are_left_out if "/input/identity/claims" in log.mask

test_nothing_else_is_left_out if count(log.mask) == 1
