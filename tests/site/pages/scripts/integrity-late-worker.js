// Goes on for as long as the browser lets it.
oninstall = () => skipWaiting();
onactivate = () => { setInterval(() => fetch("{{self}}/r/json?late=service&v={{v}}"), 25); };
