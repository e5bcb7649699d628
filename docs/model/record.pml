/* The arbiter's record of one VM (protocol 3), for lease.pml and disks.pml. Each request is one step: late requests and
 * lost answers are in ft.pml. `fresh`: a bit for each host whose copy of the disk is complete; `behind`: whose copy may be used, but may miss something. */
#define PAIR 1
#define LONE 2
byte rec_e = 1; byte rec_mode = LONE; byte rec_p = 0; byte rec_b = 9;
byte fresh = 1; byte behind = 0;

#define member(h) (rec_p == h || (rec_mode == PAIR && rec_b == h))
#define bit(h) (1 << (h))

inline moved(h) { rec_e++; rec_mode = LONE; rec_p = h; rec_b = 9 }
