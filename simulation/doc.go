// Package simulation drives what races through random schedules, on a clock of its own,
// and holds every answer to what was true when it was given. It is tests alone.
//
// # A schedule
//
// [testing/synctest] has the time, so half an hour takes some milliseconds. There are the
// real store with its activations, the real memo, key sets, user info, flights and
// breakers. The auth backend and a plugin stand behind a transport, which answers after a
// while, or is at fault. A schedule is drawn from a seed: when groups change, when keys
// come and go, when a policy is activated, when a resource changes hands, when a neighbour
// is at fault and how, and who asks what and when. All of it happens at moments of its own,
// and how long an answer takes depends on the seed and the moment, so a seed that fails
// fails again:
//
//	go test ./simulation -run TestSchedules -schedules 100000
//	go test ./simulation -run TestSchedules -seed 4711 -schedules 1
//
// # What an answer may be
//
// A request lasts from one moment to another. Its decisions must be those of one revision
// that served at some moment between, for groups in which the user was then, or as long
// before as user info counts. What the plugin says must have been true in that time, or
// while a call lasts before it, since equal calls are made once. Nobody may be let in by a
// key that was withdrawn longer ago than a key set counts. A good token must be let in,
// and an answer must come, unless a neighbour was at fault shortly before.
//
// # Histories
//
// TestHistories has two replicas activate and answer on all processors at once, and checks
// with porcupine that each replica's history is linearizable. The model is a register for
// each replica: an activation writes a revision, and an answer reads the one that it names.
//
// # It notices
//
// TestPlanted builds the product with one fault each, such as a memo whose key lacks the
// state's number, and wants the schedules, or the histories, to fail.
package simulation
