/* Non-shared disks (protocol 8): each host writes a copy of its own, and the record knows whose copies may be used
 * (freshDisks: `fresh`, and `behind` for those that may miss something). Three hosts; 0 and 1 are a pair at first. A copy stays when its host dies; memory does not.
 *
 * Claims, leases and messages are simple here, they are in ft.pml and lease.pml: a claim is one step, and a restart cuts
 * off older instances (their lease has run out: they let nothing out, but run on and write their own copy).
 *
 * A history is a number in base four with a leading 1, one digit for each write: the host that made it, plus 1. Guests write
 * without waiting (the write is seen by nobody but that host); an output shows the whole history, so before it leaves
 * the own copy has it, and the backup has it in its buffer.
 *
 * Options: -DWAIT an output waits too until the backup has replayed, and so written, what it shows; else a restart from
 *   a backup's copy reports possible loss.   -DMAXW=n writes in one history (default 2)  -DCRASH=n (default 2)
 * Properties: S2 outputs never contradict   S3 nothing seen is missing at go-live, unless loss was reported
 *   S6 memory and copy agree at go-live   L1 somebody is live in the end
 * Mutants: DX1 restart from any copy   DX2 commit before the copy is complete   DX3 the record goes on naming older copies
 *   DX4 the same, after a restart only   DX5 a backup's copy counts as fresh, without WAIT   DX6 a backup's copy counts as
 *   fresh as soon as it has won   DX7 the own copy need not have it when an output leaves   DX8 live before all is replayed, and
 *   so written   DX9 with WAIT: commit once the new backup has received what was shown, and not replayed it
 */
#define S2 1002
#define S3 1003
#define S6 1006
#define L1 2001
#define CHECK(label, holds) assert((holds) || label == 0)
#ifndef MAXW
#define MAXW 2
#endif
#ifndef CRASH
#define CRASH 2
#endif

#define OFF  0
#define PRIM 1
#define BACK 2
#define SOLE 3
#define WON  4 /* has to replay to its end */
#define COPY 5 /* SOLE, and a new backup gets the state */
#define LOAD 6 /* the new backup: its copy of the disk is not complete */

#include "record.pml"

byte st[3]; short hist[3]; short disk[3]; short recv[3]; byte ep[3]; bool cut[3]; byte peer[3];
short ack[3]; short wrote[3]; /* a primary's: what its backup said it has received, and replayed */
short seen = 1; byte fs = 1; byte crashes = CRASH; byte restarts = 1; byte joins = 1; bool done;

c_code {
static int pfx(int a, int b) { while (b > a) b >>= 2; return a == b; }
static int nxt(int a, int b) { while ((b >> 2) > a) b >>= 2; return b; }
static int length(int h) { int n = 0; while (h > 1) { n++; h >>= 2; } return n; }
}
#define running(h) (st[h] == PRIM || st[h] == SOLE || st[h] == COPY)
#define acked(h) (st[h] != PRIM || ack[h] == hist[h])
#ifdef WAIT
#define written(h) (st[h] != PRIM || wrote[h] == hist[h])
#else
#define written(h) (true)
#endif
#ifdef DX7
#define stored(h) (true)
#else
#define stored(h) (disk[h] == hist[h])
#endif

inline only(h) { /* from now on the record names this copy alone */
#ifdef DX3
  fresh = fresh | bit(h)
#else
  fresh = bit(h); behind = 0
#endif
}
inline golive(h) {
  CHECK(S3, c_expr{(pfx(now.seen, now.hist[PHost->h]))});
  CHECK(S6, disk[h] == hist[h]);
  st[h] = SOLE; ep[h] = rec_e; printf("host %d live with %d, seen %d\n", h, hist[h], seen)
}

proctype Host(byte h) {
  byte o;
  do
  /* ---- a guest that lives: a write, its arrival on the own copy, an output ---- */
  :: d_step { running(h) && c_expr{(length(now.hist[PHost->h]) < MAXW)} && disk[h] == hist[h] -> hist[h] = hist[h] * 4 + h + 1 }
  :: d_step { running(h) && disk[h] != hist[h] -> disk[h] = hist[h]; printf("host %d writes %d\n", h, hist[h]) }
  :: d_step { running(h) && !cut[h] && c_expr{(!pfx(now.hist[PHost->h], now.seen))} && acked(h) && stored(h) && written(h) ->
       printf("host %d shows %d\n", h, hist[h]);
       CHECK(S2, c_expr{(pfx(now.seen, now.hist[PHost->h]))}); seen = hist[h] }
  /* ---- backup: receives and acks, replays and writes ---- */
  :: d_step { (st[h] == BACK || st[h] == LOAD) && peer[peer[h]] == h && (st[peer[h]] == PRIM || st[peer[h]] == COPY) && recv[h] != hist[peer[h]] ->
       c_code { now.recv[PHost->h] = nxt(now.recv[PHost->h], now.hist[now.peer[PHost->h]]); }; ack[peer[h]] = recv[h] }
  :: d_step { (st[h] == BACK || st[h] == WON) && disk[h] != recv[h] && c_expr{(pfx(now.disk[PHost->h], now.recv[PHost->h]))} ->
       c_code { now.disk[PHost->h] = nxt(now.disk[PHost->h], now.recv[PHost->h]); }; printf("host %d replays, writes %d\n", h, disk[h]);
       if :: st[h] == BACK && peer[peer[h]] == h -> wrote[peer[h]] = disk[h] :: else fi }
  /* ---- suspicion and claim. A backup that won is fresh when it goes live, and not before ---- */
  :: d_step { (st[h] == PRIM || st[h] == BACK) && (fs || (st[h] == PRIM && st[peer[h]] != BACK) || (st[h] == BACK && st[peer[h]] != PRIM && st[peer[h]] != COPY)) ->
       if :: (st[h] == PRIM && st[peer[h]] == BACK) || (st[h] == BACK && (st[peer[h]] == PRIM || st[peer[h]] == COPY)) -> fs-- :: else fi;
       if :: rec_e == ep[h] && member(h) && !cut[h] -> moved(h); ep[h] = rec_e; printf("host %d wins\n", h);
               if :: st[h] == PRIM -> st[h] = SOLE; only(h) :: else -> st[h] = WON;
#ifdef DX6
                  only(h)
#endif
               fi
          :: else -> st[h] = OFF; printf("host %d is superseded\n", h) fi }
#ifdef DX8
  :: d_step { st[h] == WON -> hist[h] = recv[h]; only(h); golive(h) }
#else
  :: d_step { st[h] == WON && (disk[h] == recv[h] || c_expr{(!pfx(now.disk[PHost->h], now.recv[PHost->h]))}) ->
       if :: rec_e == ep[h] -> hist[h] = recv[h]; only(h); golive(h) :: else -> st[h] = OFF fi }
#endif
  /* ---- a new backup: memory, then the disk's copy, then the commit. Its own old copy is overwritten ---- */
  :: d_step { joins && st[h] == SOLE && !cut[h] ->
       if :: h != 0 && st[0] == OFF -> o = 0 :: h != 1 && st[1] == OFF -> o = 1 :: h != 2 && st[2] == OFF -> o = 2 :: else -> o = 9 fi;
       if :: o != 9 -> joins--; st[h] = COPY; peer[h] = o; peer[o] = h; st[o] = LOAD; recv[o] = hist[h]; ack[h] = hist[h]; wrote[h] = 1; cut[o] = 0; ep[o] = ep[h] + 1;
               printf("host %d copies to %d\n", h, o)
          :: else fi; o = 0 }
  :: d_step { st[h] == LOAD && st[peer[h]] == COPY && disk[peer[h]] == hist[peer[h]] -> disk[h] = disk[peer[h]]; recv[h] = disk[h]; ack[peer[h]] = disk[h]; wrote[peer[h]] = disk[h]; st[h] = BACK; printf("host %d has the copy %d\n", h, disk[h]) }
#if defined(WAIT) && !defined(DX9)
#define replayed(h) (wrote[h] == hist[h])
#else
#define replayed(h) (true)
#endif
#ifdef DX2
#define complete(h) (st[peer[h]] == BACK || st[peer[h]] == LOAD)
#else
#define complete(h) (st[peer[h]] == BACK)
#endif
  :: d_step { st[h] == COPY && complete(h) && ack[h] == hist[h] && replayed(h) ->
       if :: rec_e == ep[h] && rec_p == h && !cut[h] -> rec_e++; rec_mode = PAIR; rec_b = peer[h]; ep[h] = rec_e; st[h] = PRIM;
               only(h);
#if defined(WAIT) || defined(DX5)
               fresh = fresh | bit(rec_b);
#else
               behind = bit(rec_b);
#endif
#ifdef DX2
               if :: st[rec_b] == LOAD -> st[rec_b] = BACK :: else fi;
#endif
               printf("host %d and %d are a pair\n", h, rec_b)
          :: else -> st[h] = OFF fi }
  :: d_step { st[h] == COPY && st[peer[h]] != BACK && st[peer[h]] != LOAD -> st[h] = SOLE }
  :: d_step { st[h] == LOAD && st[peer[h]] != COPY && st[peer[h]] != PRIM -> st[h] = OFF }
  /* ---- restart from the own copy ---- */
#ifdef DX1
#define usable(h) (true)
#else
#define usable(h) ((fresh | behind) & bit(h))
#endif
#define nobody (!running(0) && !running(1) && !running(2) && st[0] != WON && st[1] != WON && st[2] != WON && st[0] != BACK && st[1] != BACK && st[2] != BACK)
  :: d_step { st[h] == OFF && usable(h) && (restarts || nobody) ->
       if :: nobody -> skip :: else -> restarts-- fi;
       cut[0] = 1; cut[1] = 1; cut[2] = 1; cut[h] = 0;
       if :: (behind & bit(h)) && c_expr{(!pfx(now.seen, now.disk[PHost->h]))} -> seen = disk[h]; printf("possible loss is reported\n") :: else fi;
       moved(h);
#ifndef DX4
       only(h);
#endif
       hist[h] = disk[h]; printf("host %d restarts from its copy\n", h); golive(h) }
  :: d_step { cut[h] && st[h] != OFF -> st[h] = OFF } /* learns that it is superseded */
  :: d_step { crashes && st[h] != OFF -> crashes--; st[h] = OFF; cut[h] = 0; printf("host %d dies\n", h) }
  :: done -> break
  od
}

proctype End() {
  timeout -> atomic { CHECK(L1, running(0) || running(1) || running(2)); done = 1 }
}

init { atomic {
  rec_mode = PAIR; rec_p = 0; rec_b = 1; fresh = bit(0);
#if defined(WAIT) || defined(DX5)
  fresh = fresh | bit(1);
#else
  behind = bit(1);
#endif
  st[0] = PRIM; st[1] = BACK; peer[0] = 1; peer[1] = 0; ep[0] = 1; ep[1] = 1;
  hist[0] = 1; hist[1] = 1; hist[2] = 1; disk[0] = 1; disk[1] = 1; disk[2] = 1; recv[0] = 1; recv[1] = 1; recv[2] = 1;
  ack[0] = 1; ack[1] = 1; ack[2] = 1; wrote[0] = 1; wrote[1] = 1; wrote[2] = 1;
  run Host(0); run Host(1); run Host(2); run End() } }
