// Package fair divides what there is not enough of among those who ask: the order in
// which requests begin, slots, turns at the processors, calls of a plugin, and bytes of
// memory.
//
// A [Party] is who gets a share: a user, and the plugin that asks for the user. The
// plugins share first, and the users of each plugin share what that plugin gets. So
// neither can one user keep out the others of the same plugin, nor one plugin, with
// however many users, keep out another.
//
// There are three ways to divide. A [Pool] has an amount and lets nobody wait: who asks
// for more than there is, or for more than a fair share while it is scarce, is refused.
// A [Line] has turns and lets everybody wait in order: the parties take turns, whoever
// came first among their own goes first, and where too many wait, it is the party with
// the most in the line that loses one. A [Gate] lets requests in by turns before anybody
// is verified, going by who was on the connection before, while more want to run than the
// processors keep up with.
//
// Without scarcity there is no difference between parties, and either costs a lock.
package fair

import "errors"

// Party is who gets a share. The zero Party is whoever is not known.
type Party struct {
	Plugin, User string
}

// ErrFull is that there is no room for another of the party's.
var ErrFull = errors.New("too many at once, of all or of this caller")
