package document

// Wide is how many members an object has at least that is a branch from the beginning.
const Wide = wide
