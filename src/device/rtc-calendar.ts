/** The civil calendar, without the host's Date: a time of day is arithmetic on the count of seconds. */
export interface CivilTime {
  readonly second: number;
  readonly minute: number;
  readonly hour: number;
  /** 1 is Sunday, as the clock chip counts. */
  readonly weekday: number;
  readonly day: number;
  readonly month: number;
  readonly year: number;
}

const DAY = 86_400;
const DAYS_PER_ERA = 146_097;

/** Days since 1970-01-01, in the Gregorian calendar; a year begins in March here, so leap days come last. */
function daysOf(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * DAYS_PER_ERA + dayOfEra - 719_468;
}

export function civilTime(epochSeconds: number): CivilTime {
  const days = Math.floor(epochSeconds / DAY);
  const seconds = epochSeconds - days * DAY;
  const shifted = days + 719_468;
  const era = Math.floor(shifted / DAYS_PER_ERA);
  const dayOfEra = shifted - era * DAYS_PER_ERA;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  return {
    second: seconds % 60,
    minute: Math.floor(seconds / 60) % 60,
    hour: Math.floor(seconds / 3600),
    weekday: ((((days + 4) % 7) + 7) % 7) + 1,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
    month,
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
  };
}

/** Fields out of range carry over: a guest may write anything. */
export function epochSeconds(time: Omit<CivilTime, 'weekday'>): number {
  const month = Math.min(Math.max(time.month, 1), 12);
  return (
    daysOf(time.year, month, 1) * DAY +
    (time.day - 1) * DAY +
    time.hour * 3600 +
    time.minute * 60 +
    time.second
  );
}
