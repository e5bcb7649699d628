/* The lease of protocol 8, with time. Two hosts; host 0 owns the VM at first, alone. An owner that answers no longer is
 * replaced by a restart on the other host; that one may be replaced in its turn.
 *
 * Time is a counter. It goes on at any moment, also while a host is stopped (a process that is not scheduled) and
 * between a request and its answer. No two clocks need to agree. Their rates differ so that over one lease T the owner's
 * falls back, and the taker's gets ahead, by at most D: each chooses its error anew for each lease.
 *   owner:  lets out while now < asked + T - D + its error      taker: may restart from renewed + T + D - its error on
 *
 * Options: -DEND=n the last moment (default 9)   -DRESTARTS=n (default 2)   -DREBOOT the arbiter starts again once and
 *   counts the lease anew
 * Properties: S1 an older instance lets nothing out once a newer one is live   L1 when the owner is dead, or its lease
 *   ran out and it never comes back, somebody is restarted in time
 * Mutants: LX1 no lease at release   LX2 counted from the answer   LX3 restart before the lease's end   LX4 no margin for the clocks
 *   LX5 whoever asks renews   LX6 a restart begins no lease   LX7 an arbiter that starts again takes the lease for run out
 *   LX8 the owner's clock stands still while it is stopped   LX9 the lease is looked at
 *   before the compare-and-set, not with it
 * Assumption, broken on purpose: LA1 a stop between the look at the lease and the hand-over to the network
 */
#define S1 1001
#define L1 2001
#define CHECK(label, holds) assert((holds) || label == 0)
#ifndef END
#define END 9
#endif
#ifndef RESTARTS
#define RESTARTS 2
#endif
#define T 3
#ifdef LX4
#define D 0   /* what both allow for */
#else
#define D 1
#endif
#define DRIFT 1 /* what the clocks do */

#define OFF  0
#define LIVE 1
#define DEAD 2
#define ASKS 3 /* restarting: the record's epoch was read */

#include "record.pml"

byte now_t; byte renewed; byte slackA;             /* the arbiter's: last renewal, error of the clock that counts from it */
byte st[2]; byte ep[2]; byte asked[2]; byte until[2]; bool out[2]; byte got[2]; /* a host's; got: 1 renewed 2 superseded */
byte seen_e[2]; bool late[2]; byte liveE = 1; byte restarts = RESTARTS; bool crashes = 1; bool done;
#ifdef REBOOT
bool reboots = 1;
#endif

inline grant(h, since) { /* the owner's end of its lease, by its own clock */
  if :: until[h] = since + T - D :: until[h] = since + T - D + DRIFT fi
}
inline renew() { renewed = now_t; if :: slackA = 0 :: slackA = DRIFT fi }
#ifdef LX3
#define expired (true)
#else
#define expired (now_t + slackA >= renewed + T + D)
#endif
#ifdef LX9
#define asking(h) (expired)
#define judged(h) (rec_e == seen_e[h])
#else
#define asking(h) (true)
#define judged(h) (rec_e == seen_e[h] && expired)
#endif
#ifdef LX1
#define valid(h) (true)
#else
#define valid(h) (now_t < until[h])
#endif

proctype Host(byte h) {
  do
  /* ---- owner: asks for a renewal, is answered at any later moment ---- */
  :: d_step { st[h] == LIVE && !out[h] && got[h] == 0 && asked[h] < now_t -> asked[h] = now_t; out[h] = 1 }
  :: atomic { st[h] == LIVE && got[h] == 1 -> got[h] = 0;
#ifdef LX2
       grant(h, now_t)
#else
       grant(h, asked[h])
#endif
     }
  :: d_step { st[h] == LIVE && got[h] == 2 -> st[h] = OFF; got[h] = 0; printf("host %d is superseded, halts\n", h) }
  /* ---- an output leaves ---- */
#ifdef LA1
  :: d_step { st[h] == LIVE && !late[h] && valid(h) -> late[h] = 1; printf("%d: host %d looks at its lease\n", now_t, h) }
  :: d_step { st[h] == LIVE && late[h] -> late[h] = 0; printf("%d: host %d epoch %d lets out\n", now_t, h, ep[h]); CHECK(S1, ep[h] >= liveE) }
#else
  :: d_step { st[h] == LIVE && valid(h) && ep[h] < liveE -> /* only where it would do harm */
       printf("%d: host %d epoch %d lets out\n", now_t, h, ep[h]); CHECK(S1, ep[h] >= liveE) }
#endif
  /* ---- stopped and continued: time passed on its host, see Clock. LX8: its own clock knows nothing of it ---- */
#ifdef LX8
  :: d_step { st[h] == LIVE && until[h] && until[h] < END && !late[h] -> late[h] = 1; until[h]++ }
#endif
  /* ---- restart: read the record, then compare and set, which looks at the lease in the same step ---- */
  :: d_step { st[h] == OFF && restarts && rec_p != h && asking(h) -> st[h] = ASKS; seen_e[h] = rec_e; asked[h] = now_t }
  :: atomic { st[h] == ASKS && judged(h) -> restarts--; moved(h); ep[h] = rec_e;
#ifndef LX6
       renew();
#endif
       printf("%d: host %d restarts, epoch %d\n", now_t, h, rec_e);
       st[h] = LIVE; liveE = rec_e; grant(h, now_t); asked[h] = now_t; out[h] = 0; got[h] = 0 }
  :: d_step { crashes && st[h] == LIVE -> crashes = 0; st[h] = DEAD; printf("%d: host %d dies\n", now_t, h) }
  :: done -> break
  od
}

proctype Arbiter() {
  byte h;
  do
  :: atomic { (out[0] || out[1]) ->
       if :: out[0] -> h = 0 :: out[1] -> h = 1 fi; out[h] = 0;
#ifdef LX5
       if :: true -> renew(); got[h] = 1 fi;
#else
       if :: rec_p == h && rec_e == ep[h] -> renew(); got[h] = 1; printf("%d: renewed for %d\n", now_t, h) :: else -> got[h] = 2 fi;
#endif
       h = 0 }
#ifdef REBOOT
  :: atomic { reboots -> reboots = 0;
#ifdef LX7
       renewed = 0; slackA = T; printf("%d: the arbiter starts again, lease run out\n", now_t) }
#else
       renew(); printf("%d: the arbiter starts again, counts anew\n", now_t) }
#endif
#endif
  :: done -> break
  od
}

proctype Clock() {
  do
  :: d_step { now_t < END -> now_t++ }
  :: done -> break
  od
}

proctype End() {
  timeout -> atomic {
    CHECK(L1, now_t == END);
    /* a host that could restart it has nothing to wait for */
    CHECK(L1, st[0] == LIVE || st[1] == LIVE || restarts == 0 || !expired);
    done = 1 }
}

init { atomic {
  st[0] = LIVE; ep[0] = 1;
  grant(0, 0); run Host(0); run Host(1); run Arbiter(); run Clock(); run End() } }
