// Every test, one after the other and in one process, which can then clean up however it ends. One file alone runs the
// same way: `node test/faults.test.mjs`.

import './secrets.test.mjs';
import './config.test.mjs';
import './drop-in.test.mjs';
import './install.test.mjs';
import './start.test.mjs';
import './wrapper.test.mjs';
import './listing.test.mjs';
import './faults.test.mjs';
import './audit.test.mjs';
import './inventory.test.mjs';
import './review.test.mjs';
import './page.test.mjs';
import './formats.test.mjs';
import './trace.test.mjs';
import '../rbac/same.test.mjs';
