// SPDX-License-Identifier: BSD-2-Clause
// A Verilated channel or stack with its DRAM behind a C interface that runs many clocks a call.

#include <algorithm>
#include <memory>

#include "channel.h"
#include "verilated.h"
#ifdef ACTIVITY
#include "verilated_saif_c.h"
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ports are copied as bytes");

namespace {

constexpr size_t INSTRUCTION = LOGICPIM_INSTRUCTION_BYTES;
#define COUNT(number, p) + 1
constexpr unsigned COUNTED = 0 CHANNELS(COUNT);
#undef COUNT

}  // namespace

extern "C" {

// What a call is to do and has done so far; mirrored field by field in binding.py.
struct Job {
    // Instructions in, completions out; `sets` has a bit for each channel of an instruction's.
    uint64_t instructions, issued, completed;
    const uint8_t* descriptors;
    const uint64_t* sets;
    uint16_t* tags;
    uint8_t* statuses;
    uint64_t *issue_clocks, *done_clocks;
    Traffic* traffic;  // of each channel
    // Chances in 256 that each side pauses for a clock: instruction, completion, request, response.
    uint32_t pauses[4];
    uint64_t idle_limit;
};

enum { DONE, MORE, STUCK };

}

namespace {

class Simulation {
public:
    Simulation(uint8_t* const* storage, uint64_t seed) : chance_(seed) {
        context_ = std::make_unique<VerilatedContext>();
        enter();
#ifdef ACTIVITY
        context_->traceEverOn(true);
#endif
        model_ = std::make_unique<Model>(context_.get(), "top");
        for (unsigned i = 0; i < COUNTED; i++)
            channels.push_back(std::make_unique<Channel>(*model_, i, storage[i], seed + i));
        model_->rst = 1;
        idle(4, false);
        model_->rst = 0;
        clock = 0;
        for (auto& channel : channels) {
            channel->dram.trace.clear();
            channel->dram.commands = channel->dram.faults = 0;
        }
    }
    ~Simulation() {
        enter();
        model_->final();
        model_.reset();
    }

    int run(Job& job, uint64_t clocks) {
        enter();
        uint64_t seen = progress(job);
        for (uint64_t i = 0; i < clocks; i++) {
            if (done(job)) return DONE;
            step(job, true);
            if (uint64_t now = progress(job); now != seen) {
                seen = now;
                idle_since = clock;
            } else if (clock - idle_since > job.idle_limit) {
                return STUCK;
            }
        }
        return done(job) ? DONE : MORE;
    }

    void idle(uint64_t clocks, bool live = true) {
        enter();
        Traffic none[COUNTED]{};
        Job nothing{};
        nothing.traffic = none;
        for (uint64_t i = 0; i < clocks; i++) step(nothing, live);
    }

#ifdef ACTIVITY
    // What changes while instructions are under way, from the first call until one without a path.
    void record(const char* path) {
        enter();
        if (path) {
            activity_ = std::make_unique<VerilatedSaifC>();
            model_->trace(activity_.get(), 99);
            activity_->open(path);
        } else if (activity_) {
            activity_->close();
            activity_.reset();
        }
    }
#endif

    std::vector<std::unique_ptr<Channel>> channels;
    uint64_t clock = 0, idle_since = 0;

private:
    // Verilator finds the context in a variable of the thread, where another model's may be.
    void enter() { Verilated::threadContextp(context_.get()); }

    static bool done(const Job& job) {
        return job.completed == job.instructions
            && std::all_of(job.traffic, job.traffic + COUNTED,
                           [](const Traffic& t) { return t.answered == t.requests; });
    }

    // Anything that a stuck model does not do: refresh and garbage are no progress.
    uint64_t progress(const Job& job) const {
        uint64_t sum = job.issued + job.completed;
        for (unsigned i = 0; i < COUNTED; i++)
            sum += job.traffic[i].asked + job.traffic[i].answered + channels[i]->dram.columns;
        return sum;
    }

    // One clock: inputs, falling edge, outputs, rising edge.
    void step(Job& job, bool live) {
        Model& m = *model_;
        // What has been offered is not taken back before it is taken.
        offering_ |= job.issued < job.instructions && !chance_(job.pauses[0]);
        m.insn_valid = offering_;
        m.done_ready = job.completed < job.issued && !chance_(job.pauses[1]);
        if (offering_) {
            set(m.insn_payload, job.descriptors + job.issued * INSTRUCTION, INSTRUCTION);
#if IS_STACK
            m.insn_channels = job.sets[job.issued];
#endif
        }
        for (unsigned i = 0; i < COUNTED; i++)
            channels[i]->offer(job.traffic[i], clock, job.pauses);
        m.clk = 0;
        m.eval();
        record(job);
        if (live) {
            accept(job);
            for (unsigned i = 0; i < COUNTED; i++) channels[i]->accept(job.traffic[i], clock);
        }
        m.clk = 1;
        m.eval();
        record(job);
        clock++;
    }

    void record([[maybe_unused]] const Job& job) {
#ifdef ACTIVITY
        if (activity_ && job.instructions) activity_->dump(recorded_++);
#endif
    }

    void accept(Job& job) {
        Model& m = *model_;
        bool issued = m.insn_valid && m.insn_ready, done = m.done_valid && m.done_ready;
        if (m.done_valid && job.completed == job.issued)
            channels[0]->dram.report("a completion of no instruction");
        if (done) {
            job.tags[job.completed] = m.done_tag;
            job.statuses[job.completed] = m.done_status;
            job.done_clocks[job.completed++] = clock;
        }
        if (issued) job.issue_clocks[job.issued++] = clock, offering_ = false;
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Model> model_;
    Chance chance_;
    bool offering_ = false;
#ifdef ACTIVITY
    std::unique_ptr<VerilatedSaifC> activity_;
    uint64_t recorded_ = 0;
#endif
};

}  // namespace

#define API __attribute__((visibility("default")))

extern "C" {

// What a channel says about itself; mirrored field by field in binding.py.
struct State {
    uint64_t clock, commands, faults;
    const char* first_fault;
    const Record* trace;
    uint64_t trace_length;
    Record last;
};

API uint32_t logicpim_channels() { return COUNTED; }
API Simulation* logicpim_open(uint8_t* const* storage, uint64_t seed) {
    return new Simulation(storage, seed);
}
API void logicpim_close(Simulation* s) { delete s; }
API int logicpim_run(Simulation* s, Job* job, uint64_t clocks) { return s->run(*job, clocks); }
API void logicpim_begin(Simulation* s) { s->idle_since = s->clock; }
API void logicpim_idle(Simulation* s, uint64_t clocks) { s->idle(clocks); }
API void logicpim_state(Simulation* s, uint32_t channel, State* state) {
    Dram& dram = s->channels[channel]->dram;
    *state = {s->clock, dram.commands, dram.faults, dram.first_fault.c_str(),
              dram.trace.data(), dram.trace.size(), dram.last};
}
API void logicpim_inject(Simulation* s, uint32_t channel, uint64_t granule, uint32_t bit) {
    s->channels[channel]->dram.inject(granule, bit);
}
API uint64_t logicpim_wrong_granules(Simulation* s, uint32_t channel) {
    return s->channels[channel]->dram.wrong_granules();
}
API uint64_t logicpim_disturb(Simulation* s, uint32_t channel, uint32_t bits) {
    s->channels[channel]->dram.noise = bits;
    return s->channels[channel]->dram.disturbed;
}
API void logicpim_stick(Simulation* s, uint32_t channel, uint32_t link, uint32_t lane, int state) {
    s->channels[channel]->stick(link, lane, state);
}
#ifdef ACTIVITY
API void logicpim_record(Simulation* s, const char* path) { s->record(path); }
#endif
API void logicpim_clear_trace(Simulation* s, uint32_t channel, int keep_on) {
    s->channels[channel]->dram.trace.clear();
    s->channels[channel]->dram.tracing = keep_on;
}

}
