/*
 * The revocation protocol of one key on one instance; README.md says what it is
 * about. internal/coherence/model_test.go checks this, with every fault.
 *
 * One instance is enough: instances know nothing of each other. Whoever revokes
 * waits for each of them by its own row in members, so that what holds for one
 * row holds for all. Likewise one key: changes of other keys are in the log as
 * entries that change nothing here.
 *
 * Time is discrete, and every clock counts down, so that there is no horizon: the
 * search covers runs of any length. A tick can come between any two steps, and
 * any number of ticks can. Messages are late, lost, and carried out after they
 * were given up.
 *
 * The whole is too large to be searched at each build. These leave something out,
 * and no two checks leave out the same:
 *
 *	ATOMIC_REQUESTS  a fill, and a request's way in, are one step each
 *	NO_REAPER        nobody removes silent members
 *	NO_RESTORE       the database does not go back to a backup
 *	NO_STRAY         a renewal that was given up is not carried out later
 *	NO_AROUND        nobody deletes the row around the triggers
 *
 * FAILOVER adds that a standby is promoted, which has all commits, and that rows may
 * be read on the old primary from then on.
 *
 * A macro FAULT_X seeds a fault that the safety check has to find, a macro STALL_X
 * one that a check of LIVENESS has to find.
 */

#ifndef TTL
#define TTL 2 /* ticks */
#endif
#ifndef REVS
#define REVS 3 /* entries that the log can have */
#endif

#ifdef FAULT_LEASE_LONGER
#define LEASE (TTL + 1)
#else
#define LEASE TTL
#endif

#ifdef FAULT_SHORT_WAIT
#define WAIT (TTL - 1)
#else
#define WAIT TTL
#endif

#ifdef FAULT_GONE_UNAWAITED
#define GONE_WAIT 0
#else
#define GONE_WAIT WAIT
#endif

#ifdef FAULT_RESTORE_UNNOTICED
#define SETTLE 0
#else
#define SETTLE TTL
#endif

/* The database. Every statement is one step. */

bit row = 1;           /* the key's */
bit around;            /* it was deleted around the triggers */
byte head = 1;         /* newest entry of the log; the first is that of the key's insert */
byte oldest = 1;       /* that was not pruned */
bit gone[REVS + 1];    /* the entry says that the key was deleted */
bit tag[REVS + 1];     /* the history that the entry was written in */
bit history;           /* 1 after a backup was restored */

bit member;            /* the instance's row in members */
byte applied;          /* how far it says it has come */
bit beatSeen;          /* its beat is still the one that the reaper has seen */

#ifdef FAULT_PLAIN_SEQUENCE
byte drawn = 1;        /* last number, of a change that may not be committed */
#else
#define drawn head
#endif

#ifdef FAULT_NO_TAG
#define IN_LOG(rev, t) (rev >= oldest && rev <= head)
#else
#define IN_LOG(rev, t) (rev >= oldest && rev <= head && tag[rev] == t)
#endif

#ifdef FAILOVER
bit forked;            /* a standby was promoted, and the old primary runs on; */
bit oldRow;            /* it has this row, */
byte oldHead;          /* and this newest entry */
byte seen;             /* the head of the last view */
#endif

/* The instance. */

byte lease;            /* ticks left; 0: none */
bit joined;            /* as far as it knows */
byte place; bit placeTag;
bit cached;            /* the key is remembered as good */
bit filling, bumped;   /* the generation is not the one that the fill began with */
mtype:flight = { OUT, ENTERED, LET_IN };
mtype:flight flying = OUT;

/* Its call of the database, and the answer. */

mtype:call = { IDLE, SENT, ANSWERED };
mtype:call call = IDLE;
mtype:verb = { JOIN, RENEW, PULL };
mtype:verb verb = JOIN;
byte age;              /* ticks since before it was sent, TTL at most */
bit isMember, inLog, nextGone, nextTag;
byte next, seenHead;   /* the place that the view leads to, and its head */

/* A renewal that was given up, and may be carried out all the same. */
bit stray; byte strayPlace; bit strayTag;

/* Who revokes. */

bit waiting;
bit undone;            /* by a restored backup: there is nothing to answer for */
byte rev;              /* to be acknowledged */
bit awaited;           /* the member has to acknowledge it, and is there */
byte left;             /* ticks that the commit has to be old */
byte unsettled;        /* ticks until the members that are there are all */
byte silence;          /* ticks that the reaper has to see no other beat */

bit answered;          /* a revocation of the key, which is gone since */
bit late;              /* the request began after that */
bit calm;              /* from now on nothing is lost or late */

bit turned;            /* and there was a turn in this tick, */
bit dead;              /* or there never is one again */

inline forget() {
	cached = 0;
	bumped = filling
}

inline cutFlights() {
	flying = OUT
}

/* Entering a change: numbers are in the order of the commits. */
inline enter(isGone) {
	head++;
	gone[head] = isGone;
	tag[head] = history
}

inline acknowledge(at, atTag) {
	if
	:: member ->
		beatSeen = 0;
		if
#ifdef FAULT_ACK_FOREIGN
		:: at > applied -> applied = at
#else
		:: IN_LOG(at, atTag) && at > applied -> applied = at
#endif
		:: else
		fi
	:: else
	fi
}

/* The database's side of a call: one transaction, one snapshot. */
active proctype Database() {
end:
	do
	:: d_step { call == SENT && verb == JOIN ->
		member = 1; applied = 0; beatSeen = 0;
		call = ANSWERED }

	:: d_step { call == SENT && verb != JOIN ->
		isMember = member;
		inLog = IN_LOG(place, placeTag);
		seenHead = head;
		if
		:: inLog && place < head ->
			next = place + 1; nextGone = gone[next] /* a page of one entry */
		:: else -> next = head; nextGone = 0
		fi;
		nextTag = tag[next];
		if
		:: verb == RENEW ->
			acknowledge(place, placeTag)
#ifdef FAULT_ACK_BEFORE_APPLY
			; if
			:: member && inLog && next > applied -> applied = next
			:: else
			fi
#endif
		:: else
		fi;
		call = ANSWERED }

	:: d_step { stray ->
		acknowledge(strayPlace, strayTag);
		stray = 0; strayPlace = 0; strayTag = 0 }
	od
}

inline send(what) {
	d_step { verb = what; age = 0; call = SENT }
}

inline hangUp() {
	d_step {
		isMember = 0; inLog = 0; next = 0; nextTag = 0; nextGone = 0; seenHead = 0;
		age = 0; verb = JOIN; call = IDLE
	}
}

/* The session fails: the answer is lost, or the call itself, or it comes late. */
inline giveUp() {
	d_step {
		!calm && call != IDLE;
		if
		#ifndef NO_STRAY
		:: call == SENT && verb == RENEW && !stray ->
			stray = 1; strayPlace = place; strayTag = placeTag
#endif
		:: else
		fi
	}
	hangUp()
}

inline extend(from) {
	d_step {
		if
		:: from > lease -> lease = from
		:: else
		fi
	}
}

#ifdef FAULT_LEASE_FROM_ANSWER
#define GRANT LEASE
#else
#define GRANT (LEASE - age)
#endif

/* Takes in a view. What follows the forgetting comes in steps of its own. */
inline apply() {
#ifdef FAILOVER
#ifndef FAULT_PLACE_NOTED_LATE
	d_step { seen = seenHead }
#endif
#endif
	if
	:: !inLog ->
		d_step { lease = 0; forget() }
#ifndef FAULT_FLUSH_KEEPS_FLIGHTS
		there = row;
		d_step {
			if
			:: !there -> cutFlights()
			:: else
			fi;
			there = 0
		}
#endif
	:: inLog && nextGone ->
		d_step { forget() }
		d_step { cutFlights() }
	:: else
	fi;
#ifdef STALL_PLACE_KEPT
	if
	:: inLog || place == 0 -> d_step { place = next; placeTag = nextTag }
	:: else
	fi
#else
	d_step { place = next; placeTag = nextTag }
#endif
#ifdef FAILOVER
	d_step { seen = seenHead }
#endif
}

active proctype Instance() {
	bit there;
#ifdef FAULT_CURSOR_FIRST
	byte granted;
#endif
end:
	do
	:: !joined ->
#ifdef FAULT_CURSOR_FIRST
		send(PULL);
		if
		:: call == ANSWERED -> apply()
		:: giveUp(); goto end
		fi;
		d_step {
			if
			:: place == seenHead -> granted = LEASE - age
			:: else -> granted = 0
			fi
		}
		hangUp();
#endif
		send(JOIN);
		if
		:: call == ANSWERED ->
			d_step { joined = 1 }
#ifdef FAULT_CURSOR_FIRST
			extend(granted);
			granted = 0;
#endif
			hangUp()
		:: giveUp()
		fi

	:: joined && !calm ->
		send(PULL);
		if
		:: call == ANSWERED -> apply(); hangUp()
		:: giveUp()
		fi

	:: joined && (!calm || !turned) ->
		send(RENEW);
		if
		:: call == ANSWERED ->
			if
#ifndef FAULT_EVICTION_IGNORED
			:: !isMember -> d_step { lease = 0; joined = 0 }
			:: else ->
#else
			:: true ->
#endif
#ifdef FAULT_EXTEND_BEFORE_APPLY
				if
				:: inLog && next == seenHead -> extend(GRANT)
				:: else
				fi;
#endif
				apply();
				if
#ifdef FAULT_EXTEND_BEFORE_HEAD
				:: true -> extend(GRANT)
#else
				:: place == seenHead && placeTag == nextTag -> extend(GRANT)
				:: else
#endif
				fi
			fi;
			turned = calm;
			hangUp()
		:: giveUp()
		fi

#ifdef LIVENESS
	:: d_step { !calm -> dead = 1 } break
#endif
	od
}

#ifdef ATOMIC_REQUESTS

/* Fills and requests in one step each. */
active proctype Request() {
end:
	do
	:: d_step { row && !cached -> cached = 1 }
#ifdef FAILOVER
#ifdef FAULT_PLACE_UNASKED
	:: d_step { forked && oldRow && !cached -> cached = 1 }
#else
	:: d_step { forked && oldRow && seen <= oldHead && !cached -> cached = 1 }
#endif
#endif
	:: d_step { cached && lease > 0 -> assert(!answered); flying = LET_IN }
	:: d_step { flying == LET_IN -> flying = OUT }
	od
}

#else

/* Reads the row for the cache. */
active proctype Fill() {
	bit found;
#ifdef FAILOVER
	byte held;
#endif
end:
	do
	:: d_step { !cached -> filling = 1 }
#ifdef FAULT_STANDBY_READ
		found = 1;
#else
#ifdef FAILOVER
		held = seen; /* before the statement is sent */
		d_step {
			if
			:: true -> found = row
#ifdef FAULT_PLACE_UNASKED
			:: forked -> found = oldRow
#else
			:: forked && held <= oldHead -> found = oldRow /* else it is not believed */
#endif
			fi;
			held = 0
		}
#else
		found = row;
#endif
#endif
		d_step {
			if
#ifdef FAULT_NO_GENERATION
			:: found -> cached = 1
#else
			:: found && !bumped -> cached = 1
#endif
			:: else
			fi;
			found = 0; bumped = 0; filling = 0
		}
	od
}

/* A request with the key, and then the next one. That it is in flight, it says
 * before it looks at anything. */
active proctype Request() {
	bit leased;
end:
	do
	:: true ->
#ifdef FAULT_CHECK_BEFORE_ENTERING
		d_step { late = answered; leased = lease > 0 }
		if
		:: cached && leased ->
			d_step { assert(!late); late = 0; leased = 0 }
			flying = LET_IN
		:: else -> d_step { late = 0; leased = 0 }
		fi;
#else
		d_step { late = answered; flying = ENTERED }
#ifdef FAULT_LEASE_IGNORED
		leased = 1;
#else
		leased = lease > 0; /* one reading of the clock */
#endif
		d_step {
			if
			:: flying == ENTERED && cached && leased -> assert(!late); flying = LET_IN
			:: else -> flying = OUT
			fi;
			late = 0; leased = 0
		}
#endif
		flying = OUT /* it has ended, some time, or was cut */
	od
}

#endif

/* Deletes the key, and answers. */
active proctype Revoker() {
#ifdef FAULT_PLAIN_SEQUENCE
	byte mine;
#endif
end:
	do
#ifdef FAULT_PLAIN_SEQUENCE
	:: !answered && (!row || drawn < REVS) ->
		if
		:: d_step { row && drawn < REVS -> drawn++; mine = drawn }
			d_step {
				row = 0; gone[mine] = 1; tag[mine] = history;
				if
				:: mine > head -> head = mine
				:: else
				fi;
				mine = 0; waiting = 1; left = WAIT
			}
		:: else -> d_step { waiting = 1; left = WAIT }
		fi;
#else
	:: !answered && head < REVS ->
		d_step {
			if
			:: head == REVS /* somebody was faster */
			:: head < REVS && row -> row = 0; enter(1); waiting = 1; left = WAIT
			:: head < REVS && !row -> /* already gone, by whatever: in the same way */
#ifdef FAULT_GONE_UNLOGGED
				enter(0);
#else
				enter(1);
#endif
				waiting = 1; left = GONE_WAIT
			fi
		}
#endif
		if
		:: !waiting -> goto end
		:: else
		fi;
		d_step { rev = head; awaited = member && applied < rev } /* the first look */
		do
		:: d_step { awaited && applied >= rev -> awaited = 0 }
#ifndef STALL_WAIT_FOR_ACK_ONLY
		:: d_step { awaited && left == 0 -> awaited = 0 }
#endif
#ifdef FAULT_NO_WAIT
		:: d_step { awaited -> awaited = 0 }
#endif
		:: d_step { !awaited && unsettled == 0 ->
			answered = !undone; undone = 0; waiting = 0; rev = 0; left = 0 }
			break
		od
	od
}

#ifndef NO_REAPER

/* Removes the member if it is silent for a whole ttl. */
active proctype Reaper() {
end:
	do
	:: member ->
#ifdef FAULT_REAP_CLOCK_EARLY
		silence = TTL;
		d_step { beatSeen = member }
#else
		d_step { beatSeen = member }
		silence = TTL; /* after the answer */
#endif
		d_step { silence == 0 ->
			if
#ifdef FAULT_REAP_BLIND
			:: member ->
#else
			:: member && beatSeen ->
#endif
				member = 0; applied = 0; awaited = 0; stray = 0; strayPlace = 0; strayTag = 0
			:: else
			fi;
			beatSeen = 0
		}
	od
}

#endif

active proctype Clock() {
end:
	do
	:: d_step { !calm || turned || dead ->
		turned = 0;
		lease = (lease > 0 -> lease - 1 : 0);
		left = (left > 0 -> left - 1 : 0);
		unsettled = (unsettled > 0 -> unsettled - 1 : 0);
		silence = (silence > 0 -> silence - 1 : 0);
		age = (call != IDLE && age < TTL -> age + 1 : age) }
	od
}

/* Everybody else. */
active proctype World() {
	byte to, at;
	bit unborn;
end:
	do
	:: d_step { drawn < REVS && !calm -> /* a change of another key */
#ifdef FAULT_PLAIN_SEQUENCE
		drawn++; head = drawn; gone[head] = 0; tag[head] = history
#else
		enter(0)
#endif
		}
	:: d_step { row && drawn < REVS && drawn == head && !calm -> /* plain SQL */
#ifdef FAULT_PLAIN_SEQUENCE
		drawn++;
		head = drawn; gone[head] = 1; tag[head] = history; row = 0
#else
		row = 0; enter(1)
#endif
		}
#if !defined(FAULT_PLAIN_SEQUENCE) && !defined(NO_AROUND)
	:: d_step { row && !around && !calm -> row = 0; around = 1 } /* plain SQL around the triggers */
#endif
	:: d_step { oldest < head && !calm -> oldest++ } /* pruned */
#ifdef FAILOVER
	:: d_step { !forked && !calm -> forked = 1; oldRow = row; oldHead = head }
#endif
#if !defined(FAULT_PLAIN_SEQUENCE) && !defined(NO_RESTORE)
	:: atomic { !history && !calm -> /* a backup is restored, of any time after the last pruning */
		to = oldest;
		do
		:: to < head -> to++
		:: break
		od;
		if
		:: to == 1 -> unborn = 1 /* or from before the key was inserted */
		:: true
		fi;
		if
		:: member = 0; applied = 0; awaited = 0; beatSeen = 0;
			unsettled = SETTLE
		:: joined -> member = 1; applied = (applied < to -> applied : to); beatSeen = 1;
			unsettled = SETTLE
		:: member -> applied = (applied < to -> applied : to); beatSeen = 0 /* nobody is missing */
		fi;
		d_step {
			history = 1;
			for (at : 1 .. REVS) {
				if
				:: at > to ->
					row = row || gone[at];
					gone[at] = 0; tag[at] = 0
				:: else
				fi
			}
			head = to;
			rev = (rev < to -> rev : to);
			if
			:: unborn ->
				row = 0; unborn = 0;
				unsettled = SETTLE; /* its place is not there: who revokes finds out by a turn */
#ifndef FAULT_INSERT_UNLOGGED
				tag[1] = 1 /* another entry has that place */
#endif
			:: else
			fi;
			if
			:: row -> answered = 0; late = 0; undone = waiting /* the key is back */
			:: else
			fi;
			to = 0; at = 0
		} }
#endif
#ifdef LIVENESS
	:: d_step { !calm -> calm = 1 }
#endif
	od
}

/* The promise. A request that is let through later is found in Request. And whoever
 * has applied everything remembers no key that is not there. */
active proctype Monitor() {
end:
	if
	:: d_step { answered && flying == LET_IN && lease > 0 -> assert(false) }
	:: d_step { cached && !row && !around && place == head && placeTag == tag[head] -> assert(false) }
#ifndef PROMISE_ONLY
	:: d_step { lease > 0 && unsettled == 0 && !member -> assert(false) }
#endif
	fi
}

/* Once messages arrive. The clock, the database and the members do not stop. */
#ifdef LIVENESS
ltl answers { [] (waiting -> <> !waiting) }
ltl returns { [] (calm && !dead -> <> (lease > 0)) }
#endif
