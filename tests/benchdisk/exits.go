package main

import (
	"context"
	"fmt"
	"os"

	"keel/tests/benchdisk/fio"
)

// countExits boots Keel's sides once without a job and once with each alone. What a
// boot with a job has more of exits is the job's. Ticks of the guest's clock and the
// start of fio are among them: of a job that is slow, they are a part to see.
func (b *bench) countExits(ctx context.Context, r *results) error {
	for _, side := range sides {
		if _, ours := fronts[side]; !ours {
			continue
		}
		plan := b.plan
		plan.Ramp, plan.Jobs = 0, nil
		idle, err := b.insist(ctx, r, side, plan)
		if err != nil {
			return err
		}
		r.ExitsPerIO[side] = map[string]map[string]float64{}
		for _, j := range b.plan.Jobs {
			plan.Jobs = []fio.Job{j}
			s, err := b.insist(ctx, r, side, plan)
			if err != nil {
				return err
			}
			f, ok := s.Figures[j.Name]
			if !ok || len(idle.Exits) == 0 {
				continue
			}
			r.ExitsPerIO[side][j.Name] = perIO(s.Exits, idle.Exits, f.IOs)
			fmt.Fprintf(os.Stderr, "benchdisk: exits per I/O: %s, %s: %.2v\n", side, j.Name, r.ExitsPerIO[side][j.Name])
		}
	}
	return nil
}

// perIO returns how many more exits of each kind there were, per I/O.
func perIO(with, without map[string]uint64, ios float64) map[string]float64 {
	more := map[string]float64{}
	for kind, n := range with {
		more[kind] = max(0, float64(n)-float64(without[kind])) / ios
	}
	return more
}
