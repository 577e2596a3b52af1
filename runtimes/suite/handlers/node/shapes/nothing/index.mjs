// Neither exports nor listens.
const answer = 42;
console.log(answer);
