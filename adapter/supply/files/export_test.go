package files

// MaxEntries is the most files and folders of a local policy.
const MaxEntries = maxEntries
