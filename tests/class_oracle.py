"""The C++ class once more, in scalar loops: a judge for FloatNeuralNet that shares no code with it and no arrays.

Numbers are numpy.float32, one rounded operation at a time, in lists of lists; floats are the class's doubles.  The
names are the class's.  It is slow and says everything twice rather than cleverly.
"""

import math

import numpy as np

F = np.float32
RELU, LEAKY_RELU, CORNER = "relu", "leaky_relu", "corner"


class Oracle:
    """A network of given parameters: `weights[level][row][neuron]`, `corners[level][neuron]`, level 0 empty."""

    def __init__(self, sizes, activation, options, weights, corners):
        self.sizes, self.activation, self.options = list(sizes), activation, options
        self.last_level = len(self.sizes) - 1
        self.weights, self.corners = weights, corners
        self.total_on = options.total_gradient or options.auto_rate or options.momentum
        self.with_momentum = options.momentum or options.auto_rate2
        self.m, self.corner_m = self.zeros(weights), self.zeros(corners)
        self.last = self.corner_last = None
        self.saved = None
        self.redo = self.after_redo = False
        self.passes, self.t, self.multiplier, self.training_rate = 0, 1.0, F(1), F(options.training_rate)
        self.start()

    @staticmethod
    def zeros(parameters):
        return [[[F(0) for _ in row] for row in level] for level in parameters]

    @staticmethod
    def copy(parameters):
        return [[list(row) for row in level] for level in parameters]

    def limiter(self, new, old):
        limit, floor = F(self.options.weight_saturation), F(self.options.weight_floor)
        if new > limit:
            return limit, True
        if new < -limit:
            return -limit, True
        if self.options.enable_weight_floor:
            if old > 0:
                if new < floor:
                    return (floor, True) if old > floor else (-floor, True)
            elif new > -floor:
                return (-floor, True) if old < -floor else (floor, True)
        return new, False

    def places(self):
        """Weights first, then corners: pairs of a list and an index, for parameters and everything laid out alike."""
        for level in range(1, self.last_level + 1):
            for row in range(self.sizes[level - 1] + 1):
                for neuron in range(self.sizes[level]):
                    yield "weight", level, row, neuron
        if self.activation == CORNER:
            for level in range(1, self.last_level + 1):
                for neuron in range(self.sizes[level]):
                    for part in range(3):
                        yield "corner", level, neuron, part

    # ---- A pass ----------------------------------------------------------------------------------

    def start(self):
        self.abs_sum = self.sq_sum = self.effective_sq_sum = 0.0
        self.cases = self.error_cases = 0
        self.effective_cases = self.effective_error_cases = F(0)
        self.correct = self.incorrect = self.above = self.not_above = 0
        self.usage = [[0] * size for size in self.sizes]
        self.gradient, self.corner_gradient = self.zeros(self.weights), self.zeros(self.corners)
        self.linputs = [F(0)] * self.sizes[-2]
        self.linputs_grad = [F(0)] * self.sizes[-2]

    def start_pass(self):
        self.start()
        if not self.options.momentum:
            return
        if self.options.momentum_fixed_nu:
            nu = 0.0 if self.passes < 2 else 1.0
        else:
            following = (1 + math.sqrt(1 + self.t * self.t * 4)) / 2
            nu = (self.t - 1) / following
            self.t = following if self.passes != 0 else 1.0
        for kind, level, i, j in self.places():
            values, m = (self.weights, self.m) if kind == "weight" else (self.corners, self.corner_m)
            old = values[level][i][j]
            new, hit = self.limiter(F(float(old) + nu * float(m[level][i][j])), old)
            if hit:
                m[level][i][j] = F(new - old)
            values[level][i][j] = new

    def forward(self, inputs):
        z, a = [[]], [[F(value) for value in inputs]]
        for level in range(1, self.last_level + 1):
            raw, out = [], []
            for j in range(self.sizes[level]):
                s = F(0)
                for p in range(self.sizes[level - 1]):
                    s = F(s + F(a[-1][p] * self.weights[level][p][j]))
                s = F(s + self.weights[level][-1][j])
                raw.append(s)
                if self.activation == CORNER:
                    left, offset, right = self.corners[level][j]
                    v = F(s * left) if s < 0 else F(s * right) if s > 0 else s
                    out.append(F(v + offset))
                elif level == self.last_level or not s < 0:
                    out.append(s)
                else:
                    out.append(F(0) if self.activation == RELU else F(s * F(self.options.relu_leakiness)))
            z.append(raw)
            a.append(out)
        return z, a

    @staticmethod
    def winner(values):
        if any(value != value for value in values):
            return None
        highest = max(values)
        return values.index(highest) if values.count(highest) == 1 else None

    def train(self, inputs, targets, rate, count, effective):
        """Train on one sample; return its effective count afterwards."""
        o, n_last = self.options, self.sizes[-1]
        targets = [F(value) for value in targets]
        rate = F(0) if o.auto_rate else F(rate)
        z, a = self.forward(inputs)
        out = a[-1]
        scale = F(count) if effective is None else effective
        if o.is_classifier:
            predicted = self.winner(out)
            if predicted == self.winner(targets):
                self.correct += count
                if (z[-1][-1] if predicted is None else out[predicted]) > 0:
                    self.above += count
                else:
                    self.not_above += count
                if effective is not None and effective > F(count):
                    scale = F(effective - F(F(count) * F(o.effective_decrease_rate)))
                    if scale < F(count):
                        scale = F(count)
            else:
                self.incorrect += count
                self.not_above += count
                if (
                    effective is not None
                    and self.passes > o.min_pass_effective_adj
                    and effective < count * o.max_multiplier
                ):
                    scale = F(effective + F(count))
        sigma = []
        for j in range(n_last):
            e = float(F(out[j] - targets[j]))
            self.abs_sum += abs(e) * count
            self.sq_sum += e * e * count
            self.effective_sq_sum += e * e * float(scale)
            sigma.append(F(2 * e * float(scale)))
        self.cases += count
        self.effective_cases = F(self.effective_cases + scale)
        self.error_cases += n_last * count
        self.effective_error_cases = F(self.effective_error_cases + F(F(n_last) * scale))
        for level in range(self.last_level, 0, -1):
            sigma = self.backward_level(level, z[level], a[level - 1], sigma, rate)
        return scale

    def step(self, values, totals, i, j, g, rate):
        if self.total_on:
            totals[i][j] = F(totals[i][j] + g)
        if rate != 0:
            values[i][j] = self.limiter(F(values[i][j] - F(rate * g)), values[i][j])[0]

    def backward_level(self, level, z, a, sigma, rate):
        below, own = self.sizes[level - 1], self.sizes[level]
        d = []
        for j in range(own):
            if self.activation == CORNER:
                left, _, right = self.corners[level][j]
                d.append(left if z[j] < 0 else right if z[j] > 0 else F(F(left + right) / F(2)))
            elif level == self.last_level:
                d.append(F(1))
            elif self.activation == RELU:
                d.append(F(0) if z[j] < 0 else F(1))
                self.usage[level][j] += z[j] >= 0
            else:
                d.append(F(self.options.relu_leakiness) if z[j] < 0 else F(1))
        if self.activation == CORNER:
            for j in range(own):
                arguments = self.corners[level], self.corner_gradient[level]
                if z[j] < 0 or z[j] > 0:
                    self.step(*arguments, j, 0 if z[j] < 0 else 2, F(z[j] * sigma[j]), rate)
                self.step(*arguments, j, 1, sigma[j], rate)
        passed = []
        for p in range(below):
            s = F(0)
            for j in range(own):
                s = F(s + F(F(self.weights[level][p][j] * sigma[j]) * d[j]))
            passed.append(s)
            for j in range(own):
                g = F(F(a[p] * sigma[j]) * d[j])
                self.step(self.weights[level], self.gradient[level], p, j, g, rate)
        for j in range(own):
            g = F(z[j] * abs(sigma[j])) if self.activation == CORNER else F(sigma[j] * d[j])
            self.step(self.weights[level], self.gradient[level], below, j, g, rate)
        if self.options.auto_rate and level == self.last_level:
            for p in range(below):
                self.linputs[p] = F(self.linputs[p] + a[p])
                self.linputs_grad[p] = F(self.linputs_grad[p] + passed[p])
        return passed

    def end_pass(self):
        self.norms = [math.nan] * (self.last_level + 1)
        if self.total_on:
            ratio = self.cases / float(self.effective_cases) if self.cases else 1.0
            everything = 0.0
            for level in range(1, self.last_level + 1):
                total = 0.0
                for row in self.gradient[level] + self.corner_gradient[level]:
                    for g in row:
                        total += float(g) * float(g)
                        everything += float(g) * float(g)
                self.norms[level] = math.sqrt(total) * ratio
            self.norms[0] = math.sqrt(everything) * ratio
        self.passes += 1

    # ---- The gradient applied --------------------------------------------------------------------

    def apply_gradient(self, rate):
        o = self.options
        rate = F(rate)
        if o.auto_rate:
            if self.adapt_rate():
                return True
            rate = self.training_rate
        else:
            if F(self.cases) != self.effective_cases:
                rate = F(F(rate * F(self.cases)) / self.effective_cases)
            if o.auto_rate2 and self.last is not None:
                rate = F(rate * self.adapt_multiplier())
        self.move(rate)
        if o.momentum and o.momentum_fast_brake and self.last is not None:
            for kind, level, i, j in self.places():
                last, now, m = (
                    (self.last, self.gradient, self.m)
                    if kind == "weight"
                    else (self.corner_last, self.corner_gradient, self.corner_m)
                )
                if F(last[level][i][j] * now[level][i][j]) < 0:
                    m[level][i][j] = F(0)
        if self.with_momentum:
            self.last, self.corner_last = self.copy(self.gradient), self.copy(self.corner_gradient)
        return False

    def changes(self, pairs):
        total = 0.0
        for new, old in pairs:
            change = float(F(new - old))
            total += change * change
        return total

    def adapt_rate(self):
        lowest = 0.0001 / self.cases
        if self.training_rate <= 0:
            self.training_rate = F(0.001 / self.cases)
        if self.redo:
            self.redo, self.after_redo = False, True
            return False
        top = self.last_level
        flat = lambda rows: [value for row in rows for value in row]  # noqa: E731
        if self.saved is not None and not self.after_redo:
            weights, corners, gradient, corner_gradient, linputs, linputs_grad = self.saved
            first = [value for level in corners for value in flat(level)][: 3 * self.sizes[-1]]
            v = self.changes(
                [
                    *zip(self.linputs, linputs, strict=True),
                    *zip(flat(self.weights[top]), flat(weights[top]), strict=True),
                    *zip(flat(self.corners[top]), first, strict=True),
                ]
            )
            g = self.changes(
                [
                    *zip(self.linputs_grad, linputs_grad, strict=True),
                    *zip(flat(self.gradient[top]), flat(gradient), strict=True),
                    *zip(flat(self.corner_gradient[top]), flat(corner_gradient), strict=True),
                ]
            )
            if v != 0 and g != 0:
                q = math.sqrt(v / g) * float(F(self.options.training_rate_scale))
                rate = float(self.training_rate)
                if rate < q * (0.1 * 2 / 3):
                    self.training_rate = min(F(rate * 2), F(q * (0.1 * 2 / 3)))
                elif rate > lowest and rate > q * (0.1 * 5 / 6):
                    self.training_rate = F(q * (0.1 * 2 / 3))
                    if float(self.training_rate) < lowest:
                        self.training_rate = F(lowest)
                    if rate > q * (15 / 16):
                        self.weights, self.corners = self.copy(weights), self.copy(corners)
                        self.redo = True
                        self.passes -= 2
                        return True
        self.after_redo = False
        self.saved = (
            self.copy(self.weights),
            self.copy(self.corners),
            [list(row) for row in self.gradient[top]],
            [list(row) for row in self.corner_gradient[top]],
            list(self.linputs),
            list(self.linputs_grad),
        )
        return False

    def adapt_multiplier(self):
        a_sum = b_sum = u_sum = 0.0
        changed = unchanged = 0
        for kind, level, i, j in self.places():
            now, last = (self.gradient, self.last) if kind == "weight" else (self.corner_gradient, self.corner_last)
            a, b = now[level][i][j], last[level][i][j]
            if F(a * b) < 0:
                changed += 1
                a_sum += float(F(a * a))
                b_sum += float(F(b * b))
            elif b != 0:
                unchanged += 1
                u_sum += float(F(b * b))
        nc, nu = max(changed, 1), unchanged or 1
        a, b, u = math.sqrt(a_sum / nc), math.sqrt(b_sum / nc), math.sqrt(u_sum / nu)
        if a > b and a * nc > 2 * u * nu:
            factor = 0.2 if a > 2 * b or nc > 0.7 * (nc + nu) else 0.67
        elif a > b and a > 3 * u:
            factor = 0.8
        else:
            factor = 1.2
        self.multiplier = F(float(self.multiplier) * factor)
        return self.multiplier

    def move(self, rate):
        period = 3 * self.sizes[0]
        step = F(F(self.options.tweak_rate) / F(period))
        k, before = self.passes, "weight"
        for kind, level, i, j in self.places():
            if kind != before:
                k, before = self.passes, kind
            values, totals, m = (
                (self.weights, self.gradient, self.m)
                if kind == "weight"
                else (self.corners, self.corner_gradient, self.corner_m)
            )
            old, g = values[level][i][j], totals[level][i][j]
            if self.options.scale_rate_per_layer:
                own = rate if level == self.last_level else F(rate / F(self.sizes[level + 1]))
                new = F(old - F(own * g))
            else:
                new = F(old - F(rate * F(g - F(F(g * F(k)) * step))))
                k = (k + 1) % period
            new, hit = self.limiter(new, old)
            if hit:
                totals[level][i][j] = F(0)
            if self.options.momentum:
                m[level][i][j] = F(m[level][i][j] + F(new - old))
            values[level][i][j] = new

    def reclaim(self, max_unused):
        if self.activation != RELU or self.redo:
            return 0
        found = 0
        for level in range(1, self.last_level):
            for j in range(self.sizes[level]):
                if self.usage[level][j] <= max_unused:
                    for row in self.weights[level]:
                        row[j] = F(-row[j])
                    self.weights[level + 1][j] = [F(0)] * self.sizes[level + 1]
                    found += 1
        if found:
            self.training_rate, self.saved = F(-1), None
        return found
