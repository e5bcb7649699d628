/* Lockstep FT protocol core: Promela model.
 *
 * Run (one configuration):
 *   spin -a ft.pml                      add -DNAME for a mutant or an option, e.g. spin -a -DM3 ft.pml
 *   gcc -O2 -DSAFETY -DNOREDUCE -DNOFAIR -DVECTORSZ=2048 -o pan pan.c   (NOREDUCE: guards are C, partial order reduction cannot see them)
 *     add -DCOLLAPSE for less memory, -DHC4 for hash compaction, -DBFS for the shortest counterexample
 *   ./pan -m200000 -w25                 0 errors expected without a mutant
 *   ./pan -r ft.pml.trail               replays a counterexample, one line per step (printf)
 * Options: -DMAXIN=n  inputs in one history (default 2)    -DCRASH=n host crashes (default 1)
 *          -DFALSE_SUSPECT=n wrong time-outs (default 2)   -DLOSS=n lost arbiter answers (default 1)
 *          -DATTACH  re-protection with host 2 (second generation)
 *          -DMIG     also: make-before-break migration of the backup to host 2
 *          -DPLAN    also: planned takeover of any pair, once
 *          -DHA      HA restart on host 2, at any time, also against paused owners (excludes ATTACH)
 *
 * Mutants, all caught but M2, M5B and PX1B:  M1 no ack awaited   M1B ack of the entries before the mark   M2 vCPU stalls (safe, slow)
 *   M3 last entry not replayed   M4A/M4B primary/backup does not claim   M4C no answer = won   M4D loser runs   M4E claim not idempotent
 *   M5 acks after closing   M5B receives, acks and replays until go-live (safe)   M6A/M6B no re-issue/re-send   M6C released before leaving
 *   M7 no fence   M7B fence without drain   M8 gap applied   M9 full buffer drops
 *   with ATTACH: M4F one flag for the VM's life   M10 no re-protection   X1 gate only after commit   X2 commit before the ack of the gate position
 *     X3 gate dropped while a commit may take effect   X4 copy without unreleased outputs   X5 ack without generation   X6 claim without membership
 *   with PLAN: PX1 outputs made after the last entry leave ungated   PX1B acked outputs leave after it (safe)
 *     PX2 the old primary halts before it knows   PX3 it goes on without a claim   PX4 the target does not claim
 *   with HA: HX1 no lease at release   HX2 disk read before the fence   HX3 old "won" believed after the record moved on
 *
 * Time is not modelled: a pause is a process that is not scheduled, a time-out may fire at any moment
 * (FALSE_SUSPECT of them wrongly), a message may arrive arbitrarily late or, after the receiver closed, never.
 * Every step makes progress and every fault has a budget, so all runs end: liveness is an assertion
 * on terminal states ("timeout").
 *
 * The machine. A history is an octal number with a leading 1, one digit per event:
 *   0,1,2 client request taken by the host that was live   4 disk write   5 its completion   3 network reply
 * The guest is a small database: request, write, completion, reply; a request may arrive between any two steps.
 * The content of an output IS the whole history before it, so two outputs contradict unless one's
 * history is a prefix of the other's.
 *
 * Properties. A failing assertion prints the label's number, e.g. (1003==0) for S3; run.sh prints the label:
 *   S1 after go-live nothing new of the other side takes effect        S2 outputs never contradict
 *   S3 nothing the world has seen is missing in the survivor           S4 no old-generation write after a newer one
 *   S5 replies reach the world without a gap                           L1 someone is live and all requests are answered
 *   L2 a survivor with a free host is protected again (ATTACH)
 */
#define S1 1001
#define S2 1002
#define S3 1003
#define S4 1004
#define S5 1005
#define L1 2001
#define L2 2002
#define CHECK(label, holds) assert((holds) || label == 0)

#ifndef MAXIN
#define MAXIN 2
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef FALSE_SUSPECT
#define FALSE_SUSPECT 2
#endif
#ifndef LOSS
#define LOSS 1
#endif
#ifdef MIG
#define ATTACH 1
#endif

/* host states */
#define OFF    0   /* spare */
#define BACK   1   /* backup: receives, acks, replays */
#define CLOSED 2   /* backup: closed its log, asks the arbiter */
#define WON    3   /* backup: won, has to open the disk */
#define OPENED 4   /* backup: disk opened (older cut off), waits for drain and replay */
#define PRIM   5   /* primary of a committed pair */
#define ASKP   6   /* primary: closed the channel, asks the arbiter; outputs still gated */
#define SOLE   7   /* alone, won */
#define ATT    8   /* SOLE or PRIM, and copying to a new backup; new backup does not count yet */
#define GAT    9   /* gates on the new backup too, waits for its ack of the gate position */
#define COMW   10  /* commit sent, answer not known */
#define HALT   11
#define DEAD   12
#define YIELD  13  /* planned takeover: log closed with its last entry, lets nothing out, waits for who goes on */
#define PAIR   1
#define LONE   2

byte st[3]; int hist[3]; int rel[3]; int pend[3]; byte gm[3]; byte lm[3]; bool ri[3];
int recv[3]; int relr[3]; byte gi[3]; byte pe[3];
int wire[2]; int ack[2]; int relw[2]; byte gb[2]; byte gp[2]; /* per generation: log sent, acked, released; backup, primary */
byte rec_e, rec_mode, rec_p, rec_b;                           /* the VM record at the arbiter */
byte rq[3]; byte lo[3]; byte hi[3]; byte an[3];               /* claim latch: 0 none 1 in flight; answer 1 won 2 lost */
byte crq; byte can; byte cbase;                               /* commit latch (one attach): 1 in flight; answer 1 ok 2 no */
int wr[3]; byte ws[3]; byte se[3];                            /* disk write slot: 1 net 2 accepted 3 applied 4 fenced */
byte dfence; byte dgen; int dval; byte liveE; byte liveH; int liveHist;
int wmax; byte crashes, fs, losses; int gatepos; bool attached; bool flagset; byte liveN;
bool leaseOut; byte ha; bool done;
#ifdef PLAN
byte plans = 1;
#endif

c_code {
#define HH now.hist
static int pfx(int a, int b) { while (b > a) b >>= 3; return a == b; }
static int nxt(int a, int b) { while ((b >> 3) > a) b >>= 3; return b; }            /* a proper prefix of b */
static int dcount(int h, int lo, int hi) { int n = 0; while (h > 1) { int d = h & 7; if (d >= lo && d <= hi) n++; h >>= 3; } return n; }
static int pendD(int h) { if (dcount(h,4,4) == dcount(h,5,5)) return 0; while ((h & 7) != 4) h >>= 3; return h; }
static int lastOf(int h, int d) { while (h > 1 && (h & 7) != d) h >>= 3; return h; } /* 1 if none */
static int nextExec(int h) { int i = dcount(h,0,2), d = dcount(h,4,4), c = dcount(h,5,5), n = dcount(h,3,3);
  if (c > n) return 3; if (i > d && d == c && n == c) return 4; return 0; }
static int nxtout(int r, int h) { int p = 0; while (h > r) { int d = h & 7; if (d == 3 || d == 4) p = h; h >>= 3; } return p; }
}
c_code {
/* Output Rule: every backup that may take over has acked the entry of the output's mark */
static int NX(int h) { return nxtout(now.rel[h], HH[h]); }
static int gate(int h) { int p = NX(h);
#ifdef M1
  return 1;
#endif
#ifdef M1B
  p = p >> 3; /* waits for the entries before the output, not for its mark */
#endif
  return (!(now.gm[h] & 1) || pfx(p, now.ack[0])) && (!(now.gm[h] & 2) || pfx(p, now.ack[1])); }
}
#define logging(h) (st[h] >= PRIM && st[h] <= COMW)
#if defined(PX1) || defined(PX1B)
#define running(h) (logging(h) || st[h] == YIELD)  /* may let outputs out */
#else
#define running(h) logging(h)
#endif
#ifdef PLAN
#define executing(h) (logging(h) || st[h] == YIELD)
#else
#define executing(h) running(h)
#endif

inline logit(h) {
  if :: lm[h] & 1 -> wire[0] = hist[h] :: else fi;
  if :: lm[h] & 2 -> wire[1] = hist[h] :: else fi;
}
inline emit(h) {
  CHECK(S2, c_expr{(now.ha || pfx(now.pend[PHost->h], now.wmax) || pfx(now.wmax, now.pend[PHost->h]))});
  CHECK(S1, liveH == h || liveH == 9 || c_expr{(pfx(now.pend[PHost->h], now.liveHist))});
  CHECK(S5, c_expr{(now.ha || pfx(now.pend[PHost->h], now.wmax) || pfx(lastOf(now.pend[PHost->h]>>3, 3), now.wmax))});
  CHECK(S3, c_expr{(pfx(lastOf(now.pend[PHost->h], 4), now.dval))});
  if :: pend[h] > wmax -> wmax = pend[h] :: else fi;
}
inline golive(h) { /* what a survivor must know */
  CHECK(S3, c_expr{(pfx(now.wmax, HH[PHost->h]))});
  CHECK(S3, c_expr{(pfx(now.dval, HH[PHost->h]))});
  liveH = h; liveHist = hist[h];
}

proctype Host(byte h) {
  do
  /* ---- vCPU: runs on while outputs wait (gate, not stall) ---- */
#ifdef M2
#define vrun(h) (executing(h) && c_expr{(!nxtout(now.rel[PHost->h], HH[PHost->h]))})
#else
#define vrun(h) executing(h)
#endif
  :: d_step { vrun(h) && c_expr{(dcount(HH[PHost->h],0,2) < MAXIN)} ->
       hist[h] = hist[h]*8 + h; logit(h); printf("host %d input -> %o\n", h, hist[h]) }
  :: d_step { vrun(h) && c_expr{(nextExec(HH[PHost->h]))} ->
       c_code { HH[PHost->h] = HH[PHost->h]*8 + nextExec(HH[PHost->h]); }; logit(h); printf("host %d out -> %o\n", h, hist[h]) }
  :: d_step { executing(h) && ws[h] == 3 && c_expr{(pendD(HH[PHost->h]) == now.wr[PHost->h])} ->
       hist[h] = hist[h]*8 + 5; ws[h] = 0; wr[h] = 0; logit(h); printf("host %d completion -> %o\n", h, hist[h]) }
  :: d_step { executing(h) && ws[h] == 4 -> st[h] = HALT; printf("host %d fenced, halts\n", h) }
  /* ---- outputs: decide, then (perhaps much later) emit ---- */
#define isN c_expr{( NX(PHost->h) && (NX(PHost->h) & 7) == 3 && gate(PHost->h) )}
#define isD c_expr{( NX(PHost->h) && (NX(PHost->h) & 7) == 4 && gate(PHost->h) )}
#define completed c_expr{( NX(PHost->h) != pendD(HH[PHost->h]) )}
  :: d_step { running(h) && pend[h] == 0 && isN -> c_code { now.pend[PHost->h] = NX(PHost->h); }; printf("host %d decides to release reply %o\n", h, pend[h]);
#ifdef M6C
       if :: lm[h] & 1 -> relw[0] = pend[h] :: else fi; if :: lm[h] & 2 -> relw[1] = pend[h] :: else fi
#endif
     }
  :: d_step { running(h) && pend[h] == 0 && isD && completed -> c_code { now.rel[PHost->h] = NX(PHost->h); } }
  :: d_step { running(h) && pend[h] == 0 && isD && !completed && ws[h] == 0 ->
       c_code { now.wr[PHost->h] = NX(PHost->h); }; rel[h] = wr[h]; ws[h] = 1; printf("host %d issues write %o session %d\n", h, wr[h], se[h]) }
#ifdef HX1
  :: d_step { pend[h] && st[h] != DEAD ->
#else
  :: d_step { pend[h] && st[h] != DEAD && (!leaseOut || h == 2) ->
#endif
       printf("host %d EMITS reply %o\n", h, pend[h]); emit(h); rel[h] = pend[h]; pend[h] = 0 }
  :: d_step { running(h) && ri[h] && ws[h] == 0 -> c_code { now.wr[PHost->h] = pendD(HH[PHost->h]); };
       ri[h] = 0; ws[h] = 1; printf("host %d re-issues write %o session %d\n", h, wr[h], se[h]) }
  /* ---- released watermark, only after the output left ---- */
  :: d_step { running(h) && (lm[h] & 1) && relw[0] < rel[h] -> relw[0] = rel[h] }
  :: d_step { running(h) && (lm[h] & 2) && relw[1] < rel[h] -> relw[1] = rel[h] }
  /* ---- backup: receive in order, ack on receipt ---- */
  :: d_step { st[h] == BACK && recv[h] < wire[gi[h]] ->
#ifdef M8
       c_code { int w = now.wire[now.gi[PHost->h]], r = now.recv[PHost->h]; int n = nxt(r, w);
         if (n < w && now.losses) { now.losses--; now.recv[PHost->h] = r*8 + (nxt(n, w) & 7); now.ack[now.gi[PHost->h]] = nxt(n, w); }
         else now.recv[PHost->h] = n; };
#else
       c_code { now.recv[PHost->h] = nxt(now.recv[PHost->h], now.wire[now.gi[PHost->h]]); };
#endif
       printf("host %d receives %o\n", h, recv[h]) }
  :: d_step { st[h] == BACK && ack[gi[h]] < recv[h] -> ack[gi[h]] = recv[h]; printf("host %d acks %o\n", h, ack[gi[h]]) }
#ifdef M9
  :: d_step { st[h] == BACK && recv[h] < wire[gi[h]] && ack[gi[h]] < wire[gi[h]] -> ack[gi[h]] = wire[gi[h]]; printf("host %d buffer full: drops, acks %o\n", h, ack[gi[h]]) }
#endif
#ifdef M5
  :: d_step { (st[h] >= CLOSED && st[h] < PRIM || st[h] == SOLE) && gb[0] == h && ack[0] < wire[0] -> ack[0] = wire[0]; printf("host %d acks after closing %o\n", h, ack[0]) }
#endif
#ifdef X5 /* acks carry no generation: an old backup's ack is taken for the new one's */
  :: d_step { st[h] == BACK && gi[h] == 0 && attached && recv[h] < wire[1] && c_expr{( pfx(now.recv[PHost->h], now.wire[1]) )} ->
       c_code { now.recv[PHost->h] = nxt(now.recv[PHost->h], now.wire[1]); if (now.ack[1] < now.recv[PHost->h]) now.ack[1] = now.recv[PHost->h]; };
       printf("host %d (old backup) receives and acks %o of generation 2\n", h, recv[h]) }
#endif
#ifdef M5B /* a relaxation: goes on receiving and acking until the moment of go-live */
  :: d_step { st[h] >= CLOSED && st[h] <= OPENED && recv[h] < wire[gi[h]] ->
       c_code { now.recv[PHost->h] = nxt(now.recv[PHost->h], now.wire[now.gi[PHost->h]]); }; ack[gi[h]] = recv[h]; printf("host %d receives, acks %o while asking\n", h, recv[h]) }
#endif
  /* ---- suspicion: final for this generation. The log is closed before the arbiter is asked ---- */
  :: d_step { st[h] == BACK && (fs || (st[gp[gi[h]]] > COMW) /* dead, halted, or handing over */ || !(lm[gp[gi[h]]] & (1 << gi[h]))) ->
       if :: fs && st[gp[gi[h]]] <= COMW && (lm[gp[gi[h]]] & (1 << gi[h])) -> fs-- :: else fi;
       st[h] = CLOSED; relr[h] = relw[gi[h]]; lo[h] = pe[h]; hi[h] = pe[h]; printf("host %d (backup) closes its log at %o\n", h, recv[h]);
#ifdef M4B
       st[h] = WON
#endif
#ifdef PX4
       if :: st[gp[gi[h]]] == YIELD -> st[h] = WON :: else fi
#endif
       }
  :: d_step { (st[h] == PRIM || (st[h] == ATT && (gm[h] & 1))) && (fs || st[gb[gi[h]]] != BACK) ->
       if :: fs && st[gb[gi[h]]] == BACK -> fs-- :: else fi;
       if :: st[h] == ATT -> lm[h] = 1 :: else fi; /* drops the attempt: nothing was committed */
       st[h] = ASKP; lo[h] = pe[h]; hi[h] = pe[h]; printf("host %d (primary) suspects\n", h);
#ifdef M4A
       st[h] = SOLE; gm[h] = 0; lm[h] = 0
#endif
       }
#ifdef PLAN
  /* ---- planned takeover: what the log has is its end. The backup closes its log as after a suspicion, above ---- */
  :: d_step { plans && st[h] == PRIM -> plans--; st[h] = YIELD; lm[h] = 0; printf("host %d hands over at %o\n", h, hist[h]);
#ifdef PX1
       gm[h] = 0;
#endif
#ifdef PX2
       st[h] = HALT
#endif
     }
  :: d_step { st[h] == YIELD -> /* the arbiter has the last word */
#ifdef PX3
       st[h] = SOLE; gm[h] = 0; printf("host %d takes back what it handed over\n", h) }
#else
       st[h] = ASKP; lo[h] = pe[h]; hi[h] = pe[h]; printf("host %d (handed over) asks\n", h) }
#endif
#endif
  /* ---- claim: idempotent per caller ---- */
  :: d_step { (st[h] == CLOSED || st[h] == ASKP) && rq[h] == 0 && an[h] == 0 -> rq[h] = 1 }
  :: d_step { st[h] == CLOSED && an[h] == 1 -> st[h] = WON; an[h] = 0; printf("host %d learns it won\n", h) }
  :: d_step { st[h] == ASKP && an[h] == 1 -> st[h] = SOLE; an[h] = 0; gm[h] = 0; lm[h] = 0; printf("host %d is sole\n", h);
              CHECK(S3, ha || c_expr{(pfx(now.wmax, HH[PHost->h]))}); if :: !ha -> liveH = h; liveHist = hist[h] :: else fi }
#ifdef M4D
  :: d_step { st[h] == ASKP && an[h] == 2 -> st[h] = SOLE; an[h] = 0; gm[h] = 0; lm[h] = 0; printf("host %d lost, does not halt\n", h) }
  :: d_step { st[h] == CLOSED && an[h] == 2 -> st[h] = HALT; an[h] = 0 }
#else
  :: d_step { (st[h] == CLOSED || st[h] == ASKP) && an[h] == 2 -> st[h] = HALT; an[h] = 0; printf("host %d lost, halts\n", h) }
#endif
#ifdef M4C /* storage not reachable is taken for a win */
  :: d_step { st[h] == CLOSED && rq[h] && losses -> losses--; rq[h] = 0; st[h] = WON; printf("host %d: no answer, goes on\n", h) }
  :: d_step { st[h] == ASKP && rq[h] && losses -> losses--; rq[h] = 0; st[h] = SOLE; gm[h] = 0; lm[h] = 0; printf("host %d: no answer, goes on\n", h) }
#endif
  /* ---- go-live of a backup: open the disk, drain, replay all, then live ---- */
  :: d_step { st[h] == WON ->
       if :: pe[h]+1 < dfence -> st[h] = HALT; printf("host %d: open refused\n", h)
          :: else -> dfence = pe[h]+1; se[h] = pe[h]+1; st[h] = OPENED; printf("host %d opens disk %d\n", h, dfence) fi }
#ifdef M7B
#define drained(h) (1)
#else
#define drained(h) (!(ws[0] == 2 && se[0] < se[h]) && !(ws[1] == 2 && se[1] < se[h]) && !(ws[2] == 2 && se[2] < se[h]))
#endif
#ifdef HX3
#define fresh(h) (1)
#else
#define fresh(h) (!leaseOut || h == 2)
#endif
  :: d_step { st[h] == OPENED && !fresh(h) -> st[h] = HALT; printf("host %d: lease ran out before go-live, halts\n", h) }
  :: d_step { st[h] == OPENED && drained(h) && fresh(h) ->
       hist[h] = recv[h];
#ifdef M3
       if :: hist[h] > 1 && losses -> losses--; hist[h] = hist[h]/8 :: else fi;
#endif
       rel[h] = relr[h];
#ifdef M6B
       rel[h] = hist[h];
#endif
       st[h] = SOLE; gm[h] = 0; lm[h] = 0; liveE = se[h]; printf("host %d GOES LIVE with %o, released %o\n", h, hist[h], rel[h]);
       golive(h); c_code { now.ri[PHost->h] = pendD(HH[PHost->h]) && pfx(pendD(HH[PHost->h]), now.rel[PHost->h]); };
#ifdef M6A
       ri[h] = 0; c_code { if (pendD(HH[PHost->h]) && !now.ri[PHost->h]) now.rel[PHost->h] = pendD(HH[PHost->h]) > now.rel[PHost->h] && !nxtout(pendD(HH[PHost->h]),HH[PHost->h]) && nxtout(now.rel[PHost->h],HH[PHost->h])==pendD(HH[PHost->h]) ? pendD(HH[PHost->h]) : now.rel[PHost->h]; };
#endif
     }
#ifdef ATTACH
  /* ---- a new backup on host 2 ---- */
#ifndef M10
  :: d_step { (st[h] == SOLE
#ifdef MIG
      || st[h] == PRIM
#endif
       ) && h != 2 && !attached && st[2] == OFF ->
       attached = 1; recv[2] = hist[h]; wire[1] = hist[h]; ack[1] = hist[h];
#ifdef X4
       relw[1] = hist[h]; /* the copy does not carry unreleased outputs */
#else
       relw[1] = rel[h];
#endif
       gb[1] = 2; gp[1] = h; gi[2] = 1; st[2] = BACK; lm[h] = lm[h] | 2;
       if :: st[h] == SOLE && liveE != 0 && liveH == h -> cbase = rec_e :: else -> cbase = rec_e fi;
       if :: st[h] == PRIM -> cbase = 1 :: else -> cbase = 2 fi; /* what the host knows, not what the record says */
       pe[2] = cbase + 1; st[h] = ATT; printf("host %d copies to host 2 at %o\n", h, hist[h]) }
#endif
  :: d_step { st[h] == ATT && st[2] == BACK && (lm[h] & 2) -> /* start to gate */
#ifdef X1
       gatepos = hist[h];
#else
       gm[h] = gm[h] | 2; gatepos = hist[h];
#endif
       st[h] = GAT; printf("host %d gates from %o\n", h, gatepos) }
#ifdef X2
  :: d_step { st[h] == GAT ->
#else
  :: d_step { st[h] == GAT && c_expr{(pfx(now.gatepos, now.ack[1]))} ->
#endif
       st[h] = COMW; crq = 1; printf("host %d sends commit\n", h) }
  :: d_step { st[h] == COMW && can == 0 && crq == 0 -> crq = 1 }
  :: d_step { st[h] == COMW && can == 1 -> st[h] = PRIM; can = 0; gm[h] = 2; lm[h] = 2; gi[h] = 1; pe[h] = cbase+1; printf("host %d: pair committed\n", h) }
  :: d_step { st[h] == COMW && can == 2 -> st[h] = HALT; can = 0; printf("host %d: commit refused, superseded\n", h) }
  /* abandon before the commit was sent: free. The state goes back to what it was */
  :: d_step { (st[h] == ATT || st[h] == GAT) && !(gm[h] & 1) && (st[2] != BACK) ->
       st[h] = SOLE; gm[h] = 0; lm[h] = 0; printf("host %d abandons the copy\n", h) }
  :: d_step { (st[h] == ATT || st[h] == GAT) && (gm[h] & 1) && (st[2] != BACK) ->
       st[h] = PRIM; gm[h] = 1; lm[h] = 1; printf("host %d abandons the copy\n", h) }
  :: d_step { st[h] == GAT && (gm[h] & 1) && st[gb[0]] != BACK -> st[h] = ASKP; gm[h] = 1; lm[h] = 1; lo[h] = cbase; hi[h] = cbase }
  /* abandon after: the commit may still take effect: the epoch must be moved on */
  :: d_step { st[h] == COMW && (fs || st[2] != BACK || ((gm[h] & 1) && st[gb[0]] != BACK)) ->
       if :: fs && st[2] == BACK -> fs-- :: else fi;
#ifdef X3
       if :: gm[h] & 1 -> st[h] = ASKP; lo[h] = cbase; hi[h] = cbase+1 :: else -> st[h] = SOLE; gm[h] = 0; lm[h] = 0 fi;
#else
       st[h] = ASKP; lo[h] = cbase; hi[h] = cbase+1;
#endif
       printf("host %d abandons in commit\n", h) }
#endif
#ifdef HA
  /* ---- HA restart on host 2 ---- */
  :: d_step { h == 2 && ha == 0 -> leaseOut = 1; ha = 1; printf("lease ran out\n") }
  :: d_step { h == 2 && ha == 1 -> rec_e++; rec_mode = LONE; rec_p = 2; ha = 2; printf("HA: record epoch %d\n", rec_e);
#ifdef HX2
       hist[2] = dval
#endif
  }
  :: d_step { h == 2 && ha == 2 -> dfence = rec_e; se[2] = rec_e; ha = 3; printf("HA: opens disk %d\n", dfence) }
  :: d_step { h == 2 && ha == 3 && drained(h) -> ha = 4;
#ifndef HX2
       hist[2] = dval;
#endif
       CHECK(S3, c_expr{(pfx(lastOf(now.wmax, 4), HH[2]))}); /* durable part */
       CHECK(S3, hist[2] == dval); /* nothing moves under the restarted guest */
       if :: hist[2] > 1 -> hist[2] = hist[2]*8 + 5 :: else fi;
       rel[2] = hist[2]; liveE = rec_e; liveH = 2; liveHist = 0; st[2] = SOLE; printf("HA: live with %o\n", hist[2]) }
#endif
  /* ---- crash ---- */
  :: d_step { crashes && st[h] != DEAD && st[h] != HALT && st[h] != OFF -> crashes--; st[h] = DEAD; printf("host %d CRASHES\n", h) }
  :: done -> break
  od
}

/* The arbiter: one record per VM, every change is a compare-and-set on its epoch */
proctype Arbiter() {
  byte h;
  do
  :: atomic { (rq[0] || rq[1] || rq[2]) ->
       if :: rq[0] -> h = 0 :: rq[1] -> h = 1 :: rq[2] -> h = 2 fi;
       rq[h] = 0;
       if
#ifdef M4F  /* one flag for the life of the VM */
       :: !flagset -> flagset = 1; rec_e++; rec_mode = LONE; rec_p = h; an[h] = 1
       :: flagset && !(rec_mode == LONE && rec_p == h) -> an[h] = 2
       :: flagset && rec_mode == LONE && rec_p == h -> an[h] = 1
#else
#ifdef X6 /* the epoch is compared, the membership is not */
#define member(h) (1)
#else
#define member(h) (rec_p == h || (rec_mode == PAIR && rec_b == h))
#endif
       :: rec_e >= lo[h] && rec_e <= hi[h] && member(h) ->
            rec_e++; rec_mode = LONE; rec_p = h; an[h] = 1; printf("arbiter: host %d wins, epoch %d\n", h, rec_e)
       :: !(rec_e >= lo[h] && rec_e <= hi[h] && member(h)) ->
#ifdef M4E
            an[h] = 2
#else
            if :: rec_e == hi[h]+1 && rec_mode == LONE && rec_p == h -> an[h] = 1
#ifdef HX3
               :: rec_e > hi[h]+1 -> an[h] = 1
               :: rec_e <= hi[h] || (rec_e == hi[h]+1 && !(rec_mode == LONE && rec_p == h)) -> an[h] = 2
#else
               :: else -> an[h] = 2
#endif
            fi
#endif
#endif
       fi;
       if :: losses -> losses--; an[h] = 0; printf("arbiter: answer to %d lost\n", h) :: true fi; h = 0 }
#ifdef ATTACH
  :: atomic { crq ->
       crq = 0;
       if :: rec_e == cbase && rec_p == gp[1] -> rec_e++; rec_mode = PAIR; rec_b = 2; can = 1; printf("arbiter: pair %d,2 epoch %d\n", rec_p, rec_e)
          :: else -> if :: rec_e == cbase+1 && rec_mode == PAIR && rec_p == gp[1] && rec_b == 2 -> can = 1 :: else -> can = 2 fi
       fi;
       if :: losses -> losses--; can = 0; printf("arbiter: commit answer lost\n") :: true fi }
#endif
  :: done -> break
  od
}

proctype Disk() {
  byte h;
  do
  :: atomic { (ws[0] == 1 || ws[1] == 1 || ws[2] == 1) ->
       if :: ws[0] == 1 -> h = 0 :: ws[1] == 1 -> h = 1 :: ws[2] == 1 -> h = 2 fi;
#ifdef M7
       ws[h] = 2;
#else
       if :: se[h] < dfence -> ws[h] = 4; printf("disk: write of %d fenced\n", h) :: else -> ws[h] = 2; printf("disk: accepts write of %d\n", h) fi;
#endif
       h = 0 }
  :: atomic { (ws[0] == 2 || ws[1] == 2 || ws[2] == 2) ->
       if :: ws[0] == 2 -> h = 0 :: ws[1] == 2 -> h = 1 :: ws[2] == 2 -> h = 2 fi;
       printf("disk: APPLIES write %o of host %d session %d\n", wr[h], h, se[h]);
       CHECK(S4, se[h] >= dgen);
       CHECK(S1, se[h] >= liveE);
       CHECK(S2, c_expr{(now.ha || pfx(now.dval, now.wr[PDisk->h]))});
       dval = wr[h]; dgen = se[h]; ws[h] = 3; h = 0 }
  :: done -> break
  od
}

#define LIVE(h) (st[h] == SOLE || st[h] == PRIM || st[h] == ATT)
#define HEALTHY(h) (st[h] == SOLE || (st[h] == PRIM && st[gb[gi[h]]] == BACK))
proctype End() {
  timeout -> atomic {
    if
    :: LIVE(0) || LIVE(1) || LIVE(2) ->
       CHECK(S1, ha || (LIVE(0) + LIVE(1) + LIVE(2) == 1));
       CHECK(L1, HEALTHY(0) || HEALTHY(1) || HEALTHY(2));
       CHECK(L1, ha || c_expr{(dcount(now.wmax, 3, 3) == MAXIN)});
       CHECK(L1, ha != 4 || st[2] == SOLE || st[2] == DEAD);
#ifdef ATTACH
       CHECK(L2, !(st[2] == OFF && (st[0] == SOLE || st[1] == SOLE)));
#endif
    :: else -> /* L1: nobody is live only if every host with the state is dead */
       CHECK(L1, (rec_mode == LONE && st[rec_p] == DEAD) || (rec_mode == PAIR && st[rec_p] == DEAD && (st[rec_b] == DEAD || st[rec_b] == HALT || rec_b == 2)))
    fi; done = 1 }
}

init { atomic {
  st[0] = PRIM; st[1] = BACK; hist[0] = 1; hist[1] = 1; rel[0] = 1; rel[1] = 1; gm[0] = 1; lm[0] = 1; recv[1] = 1; relr[1] = 1;
  rel[2] = 1; recv[2] = 1; relr[2] = 1; hist[2] = 1;
  gi[0] = 0; gi[1] = 0; pe[0] = 1; pe[1] = 1; wire[0] = 1; ack[0] = 1; relw[0] = 1; wire[1] = 1; ack[1] = 1; relw[1] = 1;
  gb[0] = 1; gp[0] = 0; gb[1] = 9; gp[1] = 9;
  rec_e = 1; rec_mode = PAIR; rec_p = 0; rec_b = 1; se[0] = 1; dfence = 1; dgen = 1; dval = 1; wmax = 1; liveH = 9; liveHist = 1;
  crashes = CRASH; losses = LOSS;
  if :: fs = 0 :: fs = (FALSE_SUSPECT > 0 -> 1 : 0) :: fs = FALSE_SUSPECT fi;
  run Host(0); run Host(1);
#ifdef ATTACH
  run Host(2);
#endif
#ifdef HA
  run Host(2);
#endif
  run Arbiter(); run Disk(); run End() } }
