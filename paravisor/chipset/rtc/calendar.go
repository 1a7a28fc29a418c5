package rtc

import "time"

// encode writes n, below 100, as register B demands.
func (r *RTC) encode(n int) uint8 {
	if r.mem[regB]&bBinary != 0 {
		return uint8(n)
	}
	return uint8(n/10<<4 | n%10)
}

// decode is the inverse of encode; a nibble above nine keeps its weight.
func (r *RTC) decode(v uint8) int {
	if r.mem[regB]&bBinary != 0 {
		return int(v)
	}
	return int(v>>4)*10 + int(v&15)
}

func (r *RTC) encodeHour(h int) uint8 {
	if r.mem[regB]&b24Hour != 0 {
		return r.encode(h)
	}
	v := r.encode((h+11)%12 + 1)
	if h >= 12 {
		v |= hourPM
	}
	return v
}

func (r *RTC) decodeHour(v uint8) int {
	if r.mem[regB]&b24Hour != 0 {
		return r.decode(v)
	}
	h := r.decode(v&^hourPM) % 12
	if v&hourPM != 0 {
		h += 12
	}
	return h
}

// isTime reports whether the byte belongs to the running time.
func isTime(index uint8) bool {
	switch index {
	case regSeconds, regMinutes, regHours, regWeekday, regDay, regMonth, regYear, CenturyIndex:
		return true
	}
	return false
}

// timeByte returns one byte of the given time.
func (r *RTC) timeByte(index uint8, unix int64) uint8 {
	t := time.Unix(unix, 0).UTC()
	switch index {
	case regSeconds:
		return r.encode(t.Second())
	case regMinutes:
		return r.encode(t.Minute())
	case regHours:
		return r.encodeHour(t.Hour())
	case regWeekday:
		return r.encode(int(t.Weekday()) + 1)
	case regDay:
		return r.encode(t.Day())
	case regMonth:
		return r.encode(int(t.Month()))
	case regYear:
		return r.encode(t.Year() % 100)
	default:
		return r.encode(t.Year() / 100 % 100)
	}
}

// freeze stores the running time in its bytes, where the guest may edit it.
func (r *RTC) freeze(now int64) {
	second, _ := r.divider(now)
	for i := range uint8(Size) {
		if isTime(i) {
			r.mem[i] = r.timeByte(i, second+r.epoch)
		}
	}
}

// thaw lets time run on from its bytes. Bytes out of range carry over, as
// time.Date normalizes them; the day of the week follows from the date.
func (r *RTC) thaw(now int64) {
	t := time.Date(
		r.decode(r.mem[CenturyIndex])*100+r.decode(r.mem[regYear]),
		time.Month(r.decode(r.mem[regMonth])), r.decode(r.mem[regDay]),
		r.decodeHour(r.mem[regHours]), r.decode(r.mem[regMinutes]), r.decode(r.mem[regSeconds]),
		0, time.UTC)
	second, _ := r.divider(now)
	r.epoch = t.Unix() - second
	r.second = second
}

// alarmAt reports whether the alarm bytes match the given time.
func (r *RTC) alarmAt(unix int64) bool {
	return r.alarmByte(regSecondsAlarm, r.timeByte(regSeconds, unix)) &&
		r.alarmByte(regMinutesAlarm, r.timeByte(regMinutes, unix)) &&
		r.alarmByte(regHoursAlarm, r.timeByte(regHours, unix))
}

func (r *RTC) alarmByte(index, v uint8) bool {
	a := r.mem[index]
	return a == v || a&alarmDontCare == alarmDontCare
}
