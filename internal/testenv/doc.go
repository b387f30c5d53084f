// Package testenv gives tests a real PostgreSQL and a real Redis, and a network
// between the two and the code under test that can be made to fail.
//
// The servers are those of the operating system's packages (on Debian:
// apt-get install postgresql redis-server), started by the test binary in
// temporary folders below /tmp. What is missing fails the test and says how to
// get it; nothing is skipped.
//
// [Database] and [RedisURL] hand out a private corner of one server that the
// whole test binary shares, which costs milliseconds. [StartPostgres] and
// [StartRedis] start a server that belongs to one test, to be killed, paused
// and restarted at will. [Proxy] puts a network in front of it. [StartPatroni] starts
// two PostgreSQL servers of which Patroni makes one the primary. [StartServers] is
// for the benchmarks, which are no tests.
//
// # Servers elsewhere
//
// SYSTEM_KEYS_TEST_POSTGRES may hold the URL of a server on which [Database]
// creates its databases instead, as a role that may do so.
// SYSTEM_KEYS_TEST_REDIS may hold the URL that [RedisURL] returns. The private
// servers are always started here.
//
// # Nothing stays behind
//
// Every server has a watchdog, a shell that waits for the end of a pipe which
// the test binary holds open. However that binary ends (returning, os.Exit,
// a panic, the timeout of go test, SIGKILL), the kernel closes the pipe, and
// the watchdog ends the server and removes its folder. A folder whose watchdog
// was ended too, as when a container is torn down, is removed by the next run.
//
// No goroutine of this package outlives the call that needed it, except those
// of a [Proxy], which end with its test. (Not so if a client hangs up on an answer
// that [Link.Slow] delays.) The package works on Linux, where it reads /proc.
package testenv
