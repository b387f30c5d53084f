package ui

import (
	"fmt"
	"time"
)

// Moment is a time as it is shown.
type Moment struct {
	// ISO is for programs, Exact for who wants to know, Relative for everybody else.
	ISO, Exact, Relative string
	// Past says that it is over.
	Past bool
}

// units are what relative times are counted in, the largest first.
var units = []struct {
	name string
	size time.Duration
}{
	{"year", 365 * 24 * time.Hour},
	{"month", 30 * 24 * time.Hour},
	{"day", 24 * time.Hour},
	{"hour", time.Hour},
	{"minute", time.Minute},
	{"second", time.Second},
}

// justNow is up to where seconds are not counted.
const justNow = 10 * time.Second

// moment shows a time as it is from now.
func (w words) moment(now, at time.Time) (Moment, error) {
	at = at.UTC()
	m := Moment{ISO: at.Format(time.RFC3339), Exact: at.Format("2006-01-02 15:04:05 UTC"), Past: !at.After(now)}
	distance, direction := now.Sub(at), "ago"
	if distance < 0 {
		distance, direction = -distance, "in"
	}
	var err error
	if distance < justNow {
		m.Relative, err = w.say("time.now")
		return m, err
	}
	for _, unit := range units {
		if n := int(distance / unit.size); n > 0 {
			number := "many"
			if n == 1 {
				number = "one"
			}
			m.Relative, err = w.say(fmt.Sprintf("time.%s.%s.%s", direction, unit.name, number), n)
			return m, err
		}
	}
	return m, err
}
