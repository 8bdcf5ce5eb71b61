// SPDX-License-Identifier: BSD-2-Clause
// The Verilated gateware of a board behind its serial line: bytes in, bytes out, clock by clock.

#include <cstdint>
#include <deque>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

namespace {

class Board {
public:
    explicit Board(uint32_t divisor) : divisor_(divisor) {
        context_ = std::make_unique<VerilatedContext>();
        model_ = std::make_unique<Vtop>(context_.get(), "board");
        model_->rx = 1;
        model_->reset = 1;
        for (int i = 0; i < 4; i++) step();
        model_->reset = 0;
    }
    ~Board() { model_->final(); }

    // Runs until bytes have come and the line rests for three of them, but at most so many clocks.
    size_t run(const uint8_t* in, size_t given, uint8_t* out, size_t room, uint64_t clocks) {
        queue_.insert(queue_.end(), in, in + given);
        size_t got = 0;
        uint64_t rest = 0, enough = 30 * divisor_;
        for (uint64_t i = 0; i < clocks && got < room; i++) {
            send();
            step();
            if (receive()) {
                out[got++] = byte_;
                rest = 0;
            }
            if (got && ++rest > enough && queue_.empty()) break;
        }
        return got;
    }

    uint64_t clock = 0;

private:
    void step() {
        model_->clock = 0;
        model_->eval();
        model_->clock = 1;
        model_->eval();
        clock++;
    }

    void send() {
        if (out_left_) {
            if (--out_timer_) return;
            out_timer_ = divisor_;
            out_bits_ >>= 1;
            model_->rx = --out_left_ ? out_bits_ & 1 : 1;
        } else if (!queue_.empty()) {
            out_bits_ = 0x200 | queue_.front() << 1;
            queue_.pop_front();
            out_left_ = 10;
            out_timer_ = divisor_;
            model_->rx = 0;
        }
    }

    bool receive() {
        if (!in_left_) {
            if (model_->tx) return false;
            in_left_ = 10;
            in_timer_ = divisor_ / 2;
            return false;
        }
        if (--in_timer_) return false;
        in_timer_ = divisor_;
        in_bits_ = in_bits_ >> 1 | (model_->tx ? 0x200 : 0);
        if (--in_left_) return false;
        byte_ = uint8_t(in_bits_ >> 1);
        return true;
    }

    uint32_t divisor_, out_bits_ = 0, out_left_ = 0, out_timer_ = 0;
    uint32_t in_bits_ = 0, in_left_ = 0, in_timer_ = 0;
    uint8_t byte_ = 0;
    std::deque<uint8_t> queue_;
    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vtop> model_;
};

}  // namespace

#define API __attribute__((visibility("default")))

extern "C" {

API Board* logicpim_board_open(uint32_t divisor) { return new Board(divisor); }
API void logicpim_board_close(Board* board) { delete board; }
API size_t logicpim_board_run(Board* board, const uint8_t* in, size_t given, uint8_t* out,
                              size_t room, uint64_t clocks) {
    return board->run(in, given, out, room, clocks);
}
API uint64_t logicpim_board_clock(Board* board) { return board->clock; }

}
