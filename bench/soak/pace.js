// How often what happens: all rates of the mix grow and shrink together.

/** Milliseconds. */
const tick = 5
/** Seconds of a rate that may be made up for when this process was late. */
const catchUp = 0.05

export class Pace {
  /** Of all rates. */
  factor = 0
  /** Of what takes its time, how many are under way. */
  running = 0
  #jobs = []
  #timer
  #last = performance.now()

  /** `act` is called so often a second, times the factor; not again in the same tick when it says false. */
  every(perSecond, act) {
    this.#jobs.push({ perSecond, act, credit: Math.random() })
  }

  /** Something that takes its time, so often a second if no more than `most` of it are under way. */
  everyAtMost(most, perSecond, act, failed) {
    let running = 0
    this.every(perSecond, () => {
      if (running >= most) return false
      running += 1
      this.running += 1
      act()
        .catch(failed)
        .finally(() => {
          running -= 1
          this.running -= 1
        })
      return true
    })
  }

  start() {
    this.#last = performance.now()
    this.#timer = setInterval(() => this.#tick(), tick)
  }

  stop() {
    clearInterval(this.#timer)
  }

  #tick() {
    const now = performance.now()
    const elapsed = (now - this.#last) / 1000
    this.#last = now
    for (const job of this.#jobs) {
      const rate = job.perSecond * this.factor
      job.credit = Math.min(job.credit + rate * elapsed, 1 + rate * catchUp)
      for (; job.credit >= 1; job.credit -= 1) {
        if (job.act() === false) break
      }
    }
  }
}
